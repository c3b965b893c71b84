"""The command ``assent``, also ``python -m exchange``. Each verb imports only what it needs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from exchange.errors import ExchangeError
from exchange.hospital.cli import app as hospital
from exchange.patient.cli import app as patient
from ledger.errors import LedgerError

app = typer.Typer(
    name="assent",
    help="Health data exchanged under consents that patients sign and anyone can check.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(hospital, name="hospital")
app.add_typer(patient, name="patient")

_PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Fill it with generated patients; one link per role.")
    ] = False,
    founder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A founding hospital's card.json, or a folder; repeatable."
        ),
    ] = None,
    auditor: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An auditor's {id, name, jwk}; repeatable."),
    ] = None,
) -> None:
    """Start node, keys, api and worker, and watch them until Ctrl-C.

    The first start needs --founder, or --demo to look around. Ports and the data folder are
    settings, which `assent settings` shows; `assent doctor` says what this machine lacks.
    """
    from exchange.up.command import up as run

    raise typer.Exit(run(demo=demo, founders=founder or [], auditors=auditor or []))


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="A folder of real files instead of generated patients.")
    ] = None,
    patients: Annotated[int, typer.Option(min=20, help="How many patients to generate.")] = 64,
    report: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("demo-report.json"),
    began: Annotated[float | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the whole scenario on real parts, and write a report.

    It starts the processes in a folder of its own, prints a summary, and stops everything.
    """
    from exchange.demo.command import demo as run

    raise typer.Exit(run(data=data, patients=patients, report=report, began=began))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what this machine lacks, and how to mend it.

    Exits with 1 if something is missing that is needed; a note matters later. Nothing is changed.
    """
    from exchange.up.doctor import doctor as run

    raise typer.Exit(run(as_json=as_json))


@app.command()
def settings() -> None:
    """Show every setting in force; secrets are masked."""
    from exchange.up.command import show_settings

    raise typer.Exit(show_settings())


@app.command()
def prepare(
    senders: Annotated[
        Path, typer.Option(help="Where the relayer's address goes, for `assent node`.")
    ],
) -> None:
    """Make the relayer's key and a missing certificate.

    For containers: the node takes messages from the relayer alone, and the api answers over TLS.
    """
    from exchange.settings import load_settings
    from exchange.up.preparing import prepare as run

    for line in run(load_settings(), senders):
        typer.echo(line)


@app.command()
def deploy(
    founder: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="A founding hospital's card.json, or a folder; repeatable."
        ),
    ] = None,
    auditor: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="An auditor's {id, name, jwk}; repeatable."),
    ] = None,
) -> None:
    """Deploy the contracts and write deployment.json, once.

    Repeating it changes nothing.
    """
    from exchange.deploying import deploy_once
    from exchange.settings import load_settings

    found = deploy_once(load_settings(), founder or [], auditor or [])
    typer.echo(f"deployment 0x{found.id.hex()} on chain {found.chain_id}")


@app.command()
def api() -> None:
    """The process that answers HTTP: no keys, no plaintext."""
    from exchange.api.process import main as run
    from exchange.settings import load_settings

    raise typer.Exit(run(load_settings()))


@app.command()
def keys() -> None:
    """The process that holds the keys, behind a Unix socket."""
    from exchange.keys.process import main as run
    from exchange.settings import load_settings

    raise typer.Exit(run(load_settings()))


@app.command()
def worker() -> None:
    """The process that runs jobs and hands messages to the chain.

    It inspects what hospitals publish, too.
    """
    from exchange.settings import load_settings
    from exchange.worker.process import main as run

    run(load_settings())


@app.command(context_settings=_PASS_THROUGH)
def node(context: typer.Context) -> None:
    """The managed chain: anvil, its journal, and JSON-RPC."""
    from ledger.node import main as run

    raise typer.Exit(run(context.args))


def main() -> None:
    """Run a command; an error of ours is one line and the next step, never a traceback."""
    try:
        app()
    except (ExchangeError, LedgerError) as error:
        next_step = getattr(error, "next_step", "")
        typer.echo(f"error: {error}", err=True)
        if next_step and next_step not in str(error):
            typer.echo(f"next:  {next_step}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
