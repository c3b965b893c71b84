"""``assent patient …``: what a patient can do, from a terminal.

Exit codes: 0 done; 1 the exchange refused or cannot be reached; 2 wrong use or wrong local state. With
``--json`` the answer (or the problem) is one JSON object on stdout.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from exchange.errors import ExchangeError, SettingsError
from exchange.patient.client import Patient, Problem
from exchange.patient.keep import begin_state, load_state, save_state
from ledger.errors import LedgerError
from ledger.ids import ConsentId, OrgId

app = typer.Typer(
    name="patient",
    help="What a patient can do: enrol, grant, object and withdraw.",
    no_args_is_help=True,
    add_completion=False,
)

_DEFAULT = Path.home() / ".assent-patient.json"

StateFile = Annotated[
    Path,
    typer.Option(
        "--state",
        help="Where the seed and kept signatures lie (mode 0600).",
        show_default="~/.assent-patient.json",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Purposes = Annotated[
    list[str] | None, typer.Option("--purpose", help="For which purpose (HRESCH, TREAT …).")
]
Requesters = Annotated[
    list[str] | None, typer.Option("--requester", help="Which organisation (0x…); default any.")
]
Categories = Annotated[
    list[str] | None, typer.Option("--category", help="notes, clinical, tables, images, genomics.")
]
Actions = Annotated[list[str] | None, typer.Option("--action", help="disclose, use; default both.")]
Until = Annotated[
    str | None, typer.Option(help="Last day, YYYY-MM-DD (UTC); default without an end.")
]
Ca = Annotated[Path | None, typer.Option("--ca", help="Certificate to trust, PEM.")]


@app.command()
def enrol(
    code: Annotated[str, typer.Argument(help="The code from the hospital's letter.")],
    exchange: Annotated[str, typer.Option(help="Address of the exchange.")],
    state: StateFile = _DEFAULT,
    as_json: AsJson = False,
    ca: Ca = None,
) -> None:
    """Redeem a code: this device speaks for you from now on."""
    with _reported(as_json):
        # Written before the code is redeemed: a seed that is lost would take the subject with it.
        kept = begin_state(state, exchange)
        with kept.patient(tls=_tls(ca)) as patient:
            answer = patient.enrol(code)
            kept.subject = patient.subject
        save_state(state, kept)
        _say(answer, as_json, f"Enrolled. Your keys are in {state}; keep a backup.")


@app.command()
def grant(
    purpose: Purposes = None,
    requester: Requesters = None,
    category: Categories = None,
    action: Actions = None,
    until: Until = None,
    supersedes: Annotated[str | None, typer.Option(help="The consent that this replaces.")] = None,
    state: StateFile = _DEFAULT,
    as_json: AsJson = False,
    ca: Ca = None,
) -> None:
    """Allow others to use your records."""
    wanted = _wanted(purpose, requester, category, action, until)
    if supersedes is not None:
        wanted["supersedes"] = supersedes
    _run(
        state,
        as_json,
        ca,
        lambda patient: patient.grant(**_parsed(wanted)),
        "Granted: consent {consent} is {status}; it counts once the ledger has recorded it.",
    )


@app.command("object")
def object_(
    purpose: Purposes = None,
    requester: Requesters = None,
    category: Categories = None,
    action: Actions = None,
    until: Until = None,
    state: StateFile = _DEFAULT,
    as_json: AsJson = False,
    ca: Ca = None,
) -> None:
    """Object: nothing that this describes may happen, whatever else you allow."""
    wanted = _wanted(purpose, requester, category, action, until)
    _run(
        state,
        as_json,
        ca,
        lambda patient: patient.object(**_parsed(wanted)),
        "Objection {consent} counts from now on.",
    )


@app.command()
def withdraw(
    consent: Annotated[str, typer.Argument(help="The consent or objection (0x…).")],
    state: StateFile = _DEFAULT,
    as_json: AsJson = False,
    ca: Ca = None,
) -> None:
    """Withdraw a consent, at once; an objection is lifted."""

    def act(patient: Patient) -> dict[str, Any]:
        wanted = ConsentId.parse(consent)
        if patient.consent(wanted)["decision"] == "deny":
            return patient.lift(wanted)
        return patient.withdraw(wanted)

    _run(state, as_json, ca, act, "{consent} is {status}.")


@app.command()
def history(state: StateFile = _DEFAULT, as_json: AsJson = False, ca: Ca = None) -> None:
    """Every access that was decided about you, and what became of it."""

    def act(patient: Patient) -> dict[str, Any]:
        return {"accesses": patient.history()}

    def shown(answer: dict[str, Any]) -> str:
        return "\n".join(_access(item) for item in answer["accesses"]) or "Nobody has asked yet."

    _run(state, as_json, ca, act, shown)


@app.command()
def receipts(state: StateFile = _DEFAULT) -> None:
    """Print the receipts you keep, for an auditor's `verify --receipt`; asks nobody, no secret in it."""
    with _reported(as_json=False):
        typer.echo(json.dumps(load_state(state).receipts, indent=1))


@app.command()
def status(state: StateFile = _DEFAULT, as_json: AsJson = False, ca: Ca = None) -> None:
    """Who you are here, what is held, and what you have decided."""

    def act(patient: Patient) -> dict[str, Any]:
        return {**patient.me(), "consents": patient.consents()}

    def shown(answer: dict[str, Any]) -> str:
        lines = [f"{answer['name']}: subject {answer['subject']}"]
        lines += [
            f"held: {item['records']} record(s) in {item['title']}, version {item['version']}"
            for item in answer["held"]
        ]
        lines += [
            f"{item['decision']} {item['consent']}: {item['status']}"
            + (" (expired)" if item["expired"] else "")
            + (" (being lifted)" if item["lifting"] else "")
            for item in answer["consents"]
        ]
        return "\n".join(lines)

    _run(state, as_json, ca, act, shown)


def _run(
    state: Path,
    as_json: bool,
    ca: Path | None,
    act: Callable[[Patient], dict[str, Any]],
    shown: str | Callable[[dict[str, Any]], str],
) -> None:
    with _reported(as_json):
        kept = load_state(state)
        with kept.patient(tls=_tls(ca)) as patient:
            try:
                answer = act(patient)
            finally:
                # What was signed is kept even if the answer was lost on the way.
                save_state(state, kept)
        _say(answer, as_json, shown.format(**answer) if isinstance(shown, str) else shown(answer))


@contextmanager
def _reported(as_json: bool) -> Iterator[None]:
    try:
        yield
    except Problem as problem:
        _fail(problem.document or {"detail": str(problem)}, as_json, code=1)
    except httpx2.TransportError:
        text = {
            "detail": "the exchange cannot be reached",
            "next": "check the address and that the exchange is running",
        }
        _fail(text, as_json, code=1)
    except (ExchangeError, LedgerError) as error:
        text = {"detail": str(error), "next": getattr(error, "next_step", "")}
        _fail(text, as_json, code=2)


def _fail(problem: dict[str, Any], as_json: bool, *, code: int) -> None:
    if as_json:
        typer.echo(json.dumps(problem))
    else:
        next_step = problem.get("next")
        detail = problem.get("detail") or problem.get("title") or "refused"
        typer.echo(f"{detail}{f'. Next: {next_step}' if next_step else ''}", err=True)
    raise typer.Exit(code)


def _say(answer: dict[str, Any], as_json: bool, text: str) -> None:
    typer.echo(json.dumps(answer) if as_json else text)


def _tls(ca: Path | None) -> str | bool:
    return True if ca is None else str(ca)


def _wanted(
    purposes: list[str] | None,
    requesters: list[str] | None,
    categories: list[str] | None,
    actions: list[str] | None,
    until: str | None,
) -> dict[str, Any]:
    return {
        "purposes": purposes or None,
        "requesters": requesters or None,
        "categories": categories or None,
        "actions": actions or ["disclose", "use"],
        "until": until,
    }


def _parsed(wanted: dict[str, Any]) -> dict[str, Any]:
    found = dict(wanted)
    if found["requesters"] is not None:
        found["requesters"] = [OrgId.parse(text) for text in found["requesters"]]
    if "supersedes" in found:
        found["supersedes"] = ConsentId.parse(found["supersedes"])
    until = found.pop("until")
    found["ends"] = None if until is None else _end_of(until)
    return found


def _end_of(day: str) -> int:
    """The first second after a day, UTC."""
    try:
        at = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise SettingsError(
            "--until is not a day", next_step="write it as YYYY-MM-DD, for example 2031-12-31"
        ) from None
    return int(at.timestamp()) + 86_400


def _access(item: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(item["at"] / 1000, UTC).isoformat(timespec="seconds")
    if item["erased"]:
        return f"{at} leaf {item['leaf']}: erased"
    who = item["name"] or item["requester"]
    why = f" ({', '.join(item['reasons'])})" if item["reasons"] else ""
    return (
        f"{at} {who} for {item['purpose']}: {item['decision']}{why}, "
        f"{item['outcome'] or 'open'} [leaf {item['leaf']}]"
    )
