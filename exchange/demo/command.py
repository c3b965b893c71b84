"""``assent demo`` and ``assent up --demo``: build a world, run the scenario, report, stop or stay."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import typer

from anonymize.engine import block_torch
from exchange.demo.patients import generate, write_files
from exchange.demo.real import read_real
from exchange.demo.scenario import Scenario, write_report
from exchange.demo.stage import Say
from exchange.demo.world import World, build
from exchange.deployment import Deployment
from exchange.errors import Conflict, SettingsError
from exchange.settings import Settings, environment_of
from exchange.up.command import serve

_TORCH_SECONDS = 600.0
_SHARE_OF_A = 5 / 8
_NAMES = ("St. Anna Hospital", "City General")
_HOW = {"ready": ".torch-ready", "failed": ".torch-failed"}


def _say(line: str) -> None:
    typer.echo(line)


def demo(*, data: Path | None, patients: int, report: Path, began: float | None = None) -> int:
    """Run the scenario in a folder that is removed afterwards; 0 if everything held.

    ``began`` is when the command was typed (epoch seconds), for the time to the first grant.

    Raises:
        SettingsError: a process does not start, or ``data`` is no folder.
        Differs: what happened is not what the patients wished.
    """
    began = began or time.time()
    block_torch()  # this process trains with numpy alone; the worker's child is who needs torch
    folder = Path(tempfile.mkdtemp(prefix="assent-demo-"))
    world: World | None = None
    try:
        if data is not None:
            if not data.is_dir():
                raise SettingsError(f"{data} is not a folder", next_step="pass DATA=FOLDER")
            cast = read_real(data, folder / "files", say=_say)
            world = build(
                folder, cast.names, progress=_step, environ={"ASSENT_WORKER__JOB_SECONDS": "3600"}
            )
            for hospital, files in zip(world.hospitals, cast.files, strict=True):
                hospital.files = files
            world.start()
            from exchange.demo.real_scenario import RealScenario

            found = RealScenario(world, cast, say=_say, began=began, torch=await_torch).run()
        else:
            world = build(folder, list(_NAMES), progress=_step)
            scenario = populate(world, patients, began)
            world.start()
            found = scenario.run()
        found["seconds"]["total"] = round(time.time() - began, 2)
        write_report(found, report)
        _summary(found, report)
    except BaseException:
        _stop(world)
        typer.echo(f"what the processes wrote stays in {folder}", err=True)
        raise
    _stop(world)
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def _stop(world: World | None) -> None:
    if world is not None:
        _step("stopping everything")
        world.stop()


def up_demo(settings: Settings) -> int:
    """Fill an exchange with generated patients, print one link per role, stay until a signal.

    A folder that was filled before is started again as it was.

    Raises:
        SettingsError: a process does not start.
    """
    folder = settings.data_dir / "demo"
    before = folder / "cast.json"
    if settings.deployment_file.exists() and not before.exists():
        raise Conflict(
            "this data folder holds a deployment of its own",
            next_step="set ASSENT_DATA_DIR to an empty folder, or run `assent up` without --demo",
        )
    if folder.exists() and not before.exists():
        # A first filling that broke off half-way: nothing in it is anybody's.
        shutil.rmtree(folder)
    environ = environment_of(settings)
    # What nobody chose is as the demonstration likes it: links that last, anchors at once.
    if "token_seconds" not in settings.model_fields_set:
        del environ["ASSENT_TOKEN_SECONDS"]
    if "anchor_seconds" not in settings.ledger.model_fields_set:
        del environ["ASSENT_LEDGER__ANCHOR_SECONDS"]
    world = build(folder, list(_NAMES), progress=_step, environ=environ)

    def told(_deployment: Deployment) -> Sequence[str]:
        world.join()
        if not before.exists():
            scenario = populate(world, 48, time.time())
            scenario.fill()
            before.write_text(json.dumps(_remembered(scenario)), encoding="utf-8")
        return _links(world, json.loads(before.read_text(encoding="utf-8")))

    return serve(world.stack, told=told)


def await_torch() -> None:
    """Return once torch can be imported; ``make demo`` installs it while the rest already runs.

    Raises:
        SettingsError: its installation failed; the message says what to do.
    """
    ready, failed = (Path(sys.prefix) / _HOW[name] for name in ("ready", "failed"))
    installing = (Path(sys.prefix) / ".stamps").exists()
    told = False
    end = time.monotonic() + _TORCH_SECONDS
    while installing and not ready.exists() and time.monotonic() < end:
        if failed.exists():
            raise SettingsError("torch could not be installed", next_step=failed.read_text())
        if not told:
            _say("  waiting for torch, which is still being installed")
            told = True
        time.sleep(0.2)
    if PathFinder.find_spec("torch") is None:
        raise SettingsError("torch is missing", next_step="run `make setup`")


def populate(world: World, patients: int, began: float, *, say: Say = _say) -> Scenario:
    """Give both hospitals generated patients with files; the scenario that plays them."""
    of_a = round(patients * _SHARE_OF_A)
    people = [
        generate(of_a, prefix="A", seed=1),
        generate(patients - of_a, prefix="B", seed=2),
    ]
    for hospital, cast in zip(world.hospitals, people, strict=True):
        hospital.files = write_files(cast, hospital.home / "files")
    return Scenario(world, people, say=say, began=began, torch=await_torch)


def _remembered(scenario: Scenario) -> dict[str, Any]:
    """What a link for a patient needs: kept in the demonstration's own folder, made-up people only."""
    wish = next(wish for wish in scenario.wishes[0] if wish.kind == "purpose")
    return {"seed": wish.seed.hex(), "subject": wish.subject.hex}


def _links(world: World, cast: dict[str, Any]) -> list[str]:
    auditor = world.auditor_client()
    try:
        tokens = {"hospital": world.hospitals[1].http.token(), "auditor": auditor.token()}
    finally:
        auditor.close()
    return [
        "",
        "ready. One link per role (what follows # never leaves the browser):",
        f"  patient   {world.url}/patient.html#seed={cast['seed']}&subject={cast['subject']}",
        f"  hospital  {world.url}/hospital.html#token={tokens['hospital']}",
        f"  auditor   {world.url}/auditor.html#token={tokens['auditor']}",
        f"  signing   open {world.hospitals[1].home / 'identity.json'} on the hospital's page",
        f"  commands  .venv/bin/assent hospital find --home {world.hospitals[1].home}",
        "Ctrl-C stops everything",
    ]


def _summary(report: dict[str, Any], path: Path) -> None:
    lines: list[tuple[str, str]] = [
        ("first grant recorded", f"{report['seconds_to_first_grant']} s after the start"),
        ("patients", f"{report['patients']}"),
        ("released", _plain(report["released"])),
        ("withheld", _plain(report["withheld"])),
        ("withdrawal to denial", _plain(report["withdrawal_to_denial_ms"]) + " (ms)"),
        ("on ciphertext", _plain(report["encrypted_agreement"])),
        ("torch in the clear", _plain(report["plain_model"])),
        ("query", _plain(report["query"])),
        ("bundle verified offline", str(report["bundle_verified"])),
        ("one byte changed", f"fails at step {report['tampered_bundle_failed_at']}"),
        ("a forged consent", f"fails at step {report['forged_consent_failed_at']}, released: no"),
        ("log", f"{report['chain']['log_size']} leaves anchored on chain {report['chain']['id']}"),
        ("in all", f"{report['seconds']['total']} s"),
    ]
    width = max(len(name) for name, _ in lines)
    typer.echo("")
    for name, value in lines:
        typer.echo(f"  {name:<{width}}  {value}")
    typer.echo(f"\nthe whole report is in {path}")


def _plain(found: dict[str, Any]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {value}" for name, value in found.items() if value is not None
    )


def _step(line: str) -> None:
    typer.echo(f"· {line}")
