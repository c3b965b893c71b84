"""``assent hospital …``: everything a hospital does, on its own premises."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.errors import Malformed

app = typer.Typer(
    help="A hospital's commands: keys, patients, publishing, asking.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Home = Annotated[
    Path, typer.Option(envvar="ASSENT_HOSPITAL_HOME", help="The hospital's own folder.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_HERE = Path("hospital")


@contextmanager
def _bar(label: str, *, quiet: bool) -> Iterator[Any]:
    """A progress function ``(step, done, total)`` that draws on a terminal and is silent elsewhere."""
    shown = not quiet and sys.stderr.isatty()
    last = ""

    def progress(step: str, done: int, total: int) -> None:
        nonlocal last
        if not shown:
            return
        if step != last and last:
            typer.echo("", err=True)
        last = step
        width = 24
        filled = width * done // total if total else 0
        typer.echo(
            f"\r{label}: {step} [{'#' * filled}{'.' * (width - filled)}] {done}/{total}",
            err=True,
            nl=False,
        )

    yield progress
    if shown and last:
        typer.echo("", err=True)


@app.command()
def init(
    name: Annotated[str, typer.Option(help="The hospital's name, as others will read it.")],
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """Make the hospital's keys and its signed card; the keys never leave the folder."""
    from exchange.hospital.identity import Identity

    identity = Identity.make(home, name)
    card = home / "card.json"
    if as_json:
        typer.echo(json.dumps({"org": identity.org.hex, "card": str(card)}))
        return
    typer.echo(f"made {identity.name} as {identity.org.hex}")
    typer.echo(f"next: give {card} to the exchange's operator, then `assent hospital join`")


@app.command()
def join(
    exchange: Annotated[str, typer.Option(help="The exchange's address.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="The exchange key's address, told out of band.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(help="The exchange's certificate, PEM, where it made its own.")
    ] = None,
    home: Home = _HERE,
) -> None:
    """Pin the exchange: its deployment and the key that speaks for it."""
    from exchange.hospital.client import fetch_deployment
    from exchange.hospital.identity import Identity

    told = fetch_deployment(exchange, ca=ca)
    pins = Identity.load(home).pin(exchange, told, fingerprint=fingerprint, ca=ca)
    typer.echo(f"joined {pins.url}; its key is 0x{pins.exchange.hex()}")


@app.command()
def admit(
    newcomer: Annotated[
        Path, typer.Argument(help="Its card.json, or an admission that others have signed.")
    ],
    fingerprint: Annotated[
        str | None, typer.Option(help="The newcomer's address, told out of band.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the signed admission goes.")] = Path(
        "admission.json"
    ),
    submit: Annotated[
        bool, typer.Option("--submit", help="Hand it in: enough members have signed.")
    ] = False,
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """Sign that another hospital may take part; the last of two members hands it in."""
    from exchange.hospital.admitting import endorse, hand_in
    from exchange.hospital.client import ExchangeClient
    from exchange.hospital.identity import Identity
    from exchange.strict_json import parse

    identity = Identity.load(home)
    admission = endorse(identity, parse(newcomer.read_bytes()), fingerprint=fingerprint)
    out.write_text(json.dumps(admission, indent=1) + "\n")
    card, signed = admission["card"]["card"], len(admission["signatures"])
    if submit:
        with closing(ExchangeClient.of(identity)) as client:
            found = hand_in(client, admission)
        typer.echo(json.dumps(found) if as_json else f"{found['org']} is {found['status']}")
        return
    if as_json:
        typer.echo(json.dumps({"org": card["org"], "signatures": signed, "admission": str(out)}))
        return
    typer.echo(f"signed for {card['name']} ({card['address']}): {signed} signatures in {out}")
    typer.echo(f"next: another member runs `assent hospital admit {out} --submit`")


@app.command()
def enrol(
    records: Annotated[
        list[str] | None, typer.Argument(help="Record numbers; or use --from.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="A CSV with a column of record numbers.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="That column; the first by default.")] = None,
    letters: Annotated[Path, typer.Option(help="Where the codes for the letters go.")] = Path(
        "letters.csv"
    ),
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """Invite patients: a subject and a code for each record number."""
    from exchange.hospital.client import ExchangeClient
    from exchange.hospital.enrol import enrol as run
    from exchange.hospital.enrol import read_records, write_letters
    from exchange.hospital.identity import Identity
    from exchange.hospital.subjects import SubjectMap

    identity = Identity.load(home)
    wanted = list(records or [])
    if source is not None:
        wanted += read_records(source, column)
    if not wanted:
        raise Malformed("nobody to enrol", next_step="name record numbers, or use --from FILE")
    subjects = SubjectMap(home / "subjects.sqlite", identity.org)
    entries = run(ExchangeClient.of(identity), identity, subjects, wanted)
    written = write_letters(entries, letters)
    if as_json:
        typer.echo(json.dumps({"invited": written, "letters": str(letters)}))
        return
    typer.echo(f"invited {written} patients; the codes for their letters are in {letters}")


@app.command()
def publish(
    source: Annotated[Path, typer.Argument(help="NDJSON of notes, FHIR NDJSON or bundle, or CSV.")],
    form: Annotated[str, typer.Option("--form", help="notes, fhir or table.")],
    title: Annotated[str, typer.Option(help="What others will find it by.")],
    description: Annotated[str, typer.Option(help="A sentence or two.")] = "",
    dataset: Annotated[
        str | None, typer.Option(help="Add a version to this dataset instead of a new one.")
    ] = None,
    category: Annotated[
        list[str] | None, typer.Option(help="Data categories; by the form by default.")
    ] = None,
    patients: Annotated[
        Path | None,
        typer.Option(help="FHIR Patient resources: what is known is removed from their records."),
    ] = None,
    record_column: Annotated[
        str | None, typer.Option(help="A table's column of record numbers.")
    ] = None,
    profile: Annotated[str, typer.Option(help="De-identification profile.")] = "safe-harbor",
    wait: Annotated[float, typer.Option(help="Seconds to wait for intake.")] = 120.0,
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """De-identify, check, seal and publish; records that fail are set aside and named."""
    from anonymize.engine import block_torch
    from exchange.hospital.publishing import publish_file

    # spaCy would wake torch, which de-identification never needs.
    block_torch()
    with _bar("publish", quiet=as_json) as progress:
        done = publish_file(
            home,
            source,
            form=form,
            title=title,
            description=description,
            dataset=dataset,
            categories=category,
            patients=patients,
            record_column=record_column,
            profile=profile,
            wait_seconds=wait,
            progress=progress,
        )
    if as_json:
        typer.echo(json.dumps(done))
        return
    typer.echo(f"dataset {done['dataset']} version {done['version']}: {done['status']}")
    typer.echo(f"  {done['records']} records of {done['subjects']} subjects")
    for one in done["setAside"][:20]:
        typer.echo(f"  set aside: {one['position']} ({one['reason']})")
    if len(done["setAside"]) > 20:
        typer.echo(f"  and {len(done['setAside']) - 20} more; --json lists all")


@app.command()
def datasets(home: Home = _HERE, as_json: AsJson = False) -> None:
    """The hospital's own publications and their state."""
    items = _client(home).get("/v1/hospital/datasets")["items"]
    if as_json:
        typer.echo(json.dumps(items))
        return
    for item in items:
        typer.echo(
            f"{item['dataset']}  v{item['version']}  {item['status']:<10} {item['title']}  "
            f"({item['subjects']} subjects, {item['records']} records)"
        )


@app.command()
def find(
    text: Annotated[str, typer.Argument(help="Words in title or description.")] = "",
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """Search the catalogue."""
    items = _client(home).get("/v1/datasets", text=text)["items"]
    if as_json:
        typer.echo(json.dumps(items))
        return
    for item in items:
        typer.echo(
            f"{item['dataset']}  v{item['version']}  {item['kind']:<6} {item['title']}  "
            f"({item['publisher']}; {item['subjects'] or 'fewer than 11'} subjects)"
        )


@app.command()
def request(
    dataset: Annotated[str, typer.Argument(help="The dataset's id.")],
    purpose: Annotated[str, typer.Option(help="Purpose of use, such as HRESCH.")],
    version: Annotated[int | None, typer.Option(help="The newest by default.")] = None,
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """Ask for records; the ruling is recorded, whatever it is."""
    from exchange.hospital.identity import Identity
    from exchange.hospital.request import ask

    answer = ask(
        _client(home), Identity.load(home), dataset=dataset, version=version, purpose=purpose
    )
    if as_json:
        typer.echo(json.dumps(answer))
        return
    hidden = answer["withheld"] if answer["withheld"] is not None else "fewer than 11"
    typer.echo(
        f"release {answer['release']}: {answer['decision']}, {answer['permitted']} subjects permitted, "
        f"{hidden} withheld"
    )
    if answer["permitted"]:
        typer.echo(f"next: assent hospital receive {answer['release']}")


@app.command()
def receive(
    release: Annotated[str, typer.Argument(help="The release's id.")],
    out: Annotated[Path, typer.Option(help="Folder for the opened records.")] = Path("releases"),
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """Download and open a release; what was stopped midway is discarded."""
    from exchange.hospital.receiving import receive_release

    done = receive_release(home, release, out)
    if as_json:
        typer.echo(json.dumps(done))
        return
    typer.echo(
        f"{done['records']} records of {done['delivered']} subjects in {done['file']}; "
        f"{done['stopped']} subjects stopped"
    )


@app.command()
def query(
    dataset: Annotated[str, typer.Argument(help="The dataset's id.")],
    purpose: Annotated[str, typer.Option(help="Purpose of use, such as HRESCH.")],
    where: Annotated[
        list[str] | None,
        typer.Option(help="field op value, as in 'age >= 60'; repeatable, all must hold."),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Columns or FHIR paths to return; asks for rows.")
    ] = None,
    home: Home = _HERE,
    as_json: AsJson = False,
) -> None:
    """Count, or fetch rows where consent permits rows; filters are typed, never SQL."""
    from exchange.hospital.asking import run_query

    answer = run_query(home, dataset, purpose=purpose, where=where or [], columns=column or [])
    typer.echo(json.dumps(answer, indent=None if as_json else 2, ensure_ascii=False))


@app.command()
def encrypt(
    rows: Annotated[Path, typer.Argument(help="CSV: record number, then the model's features.")],
    model: Annotated[str, typer.Option(help="The model's id (digest).")],
    purpose: Annotated[str, typer.Option(help="Purpose of use, such as TREAT.")],
    out: Annotated[Path, typer.Option(help="Where request and key are kept.")] = Path("encrypted"),
    home: Home = _HERE,
) -> None:
    """Encrypt rows for a model under a key of this hospital, and submit the job."""
    from exchange.hospital.encrypted import encrypt_and_submit

    job = encrypt_and_submit(home, rows, model=model, purpose=purpose, out=out)
    typer.echo(f"job {job['job']}: {job['status']}")
    typer.echo(f"next: assent hospital decrypt {job['job']} --out {out}")


@app.command()
def decrypt(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    out: Annotated[Path, typer.Option(help="Where request and key are kept.")] = Path("encrypted"),
    home: Home = _HERE,
) -> None:
    """Fetch an encrypted job's reply and decrypt it, rounded."""
    from exchange.hospital.encrypted import fetch_and_decrypt

    typer.echo(json.dumps(fetch_and_decrypt(home, job, out=out), indent=2))


@app.command()
def page(home: Home = _HERE) -> None:
    """A link to the hospital's page, good for as long as its token (never share it)."""
    client = _client(home)
    typer.echo(f"{client.url}/hospital.html#token={client.token()}")


def _client(home: Path) -> Any:
    from exchange.hospital.client import ExchangeClient
    from exchange.hospital.identity import Identity

    return ExchangeClient.of(Identity.load(home))
