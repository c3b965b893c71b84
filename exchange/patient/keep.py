"""The patient's state file: the seed, the subject, and the withdrawals that exist nowhere else.

One JSON file, mode 0600, written whole or not at all. Whoever reads it speaks for the patient; whoever
loses it goes to the hospital's desk.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from exchange.errors import Conflict, SettingsError
from exchange.patient.client import Patient
from exchange.patient.signing import SignedConsent
from ledger.errors import LedgerError
from ledger.ids import ConsentId, SubjectId
from ledger.messages import from_hex, to_hex

_VERSION = "assent.patient/1"
_PRIVATE = 0o077


@dataclass
class State:
    """What one patient keeps for one exchange."""

    url: str
    seed: bytes
    subject: SubjectId | None = None
    withdrawals: dict[ConsentId, SignedConsent] = field(default_factory=dict)
    receipts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def new(cls, url: str) -> State:
        """A new seed for an exchange."""
        return cls(url.rstrip("/"), secrets.token_bytes(32))

    def patient(self, *, tls: str | bool = True) -> Patient:
        """A connection that shares this state."""
        patient = Patient(self.url, self.seed, self.subject, tls=tls)
        patient.withdrawals = self.withdrawals
        patient.receipts = self.receipts
        return patient


def load_state(path: Path) -> State:
    """Read the state file.

    Raises:
        SettingsError: it is missing, readable by others, or cannot be read.
    """
    try:
        if path.stat().st_mode & _PRIVATE:
            raise SettingsError(f"{path} can be read by others", next_step=f"run: chmod 600 {path}")
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is missing", next_step="enrol first: assent patient enrol CODE --exchange URL"
        ) from None
    except (OSError, ValueError):
        raise SettingsError(
            f"{path} cannot be read", next_step="restore it from a backup"
        ) from None
    try:
        return _read(found)
    except (KeyError, TypeError, AttributeError, LedgerError):
        raise SettingsError(
            f"{path} is no state file of this version", next_step="restore it from a backup"
        ) from None


def begin_state(path: Path, url: str) -> State:
    """A new seed, kept; or the one of an enrolment at this exchange that did not come to its end.

    Raises:
        Conflict: the file belongs to a subject already, or to another exchange.
        SettingsError: the file that is there cannot be read.
    """
    if path.exists():
        state = load_state(path)
        if state.subject is not None or state.url != url.rstrip("/"):
            raise Conflict(
                f"{path} exists: its seed would be lost", next_step="use another --state FILE"
            )
        return state
    state = State.new(url)
    save_state(path, state)
    return state


def save_state(path: Path, state: State) -> None:
    """Write the state file, durable and for the owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(_written(state), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _written(state: State) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "exchange": state.url,
        "seed": state.seed.hex(),
        "subject": None if state.subject is None else state.subject.hex,
        "withdrawals": {
            consent.hex: {
                "commitment": to_hex(kept.commitment),
                "decision": kept.decision,
                "signature": to_hex(kept.withdraw_signature),
            }
            for consent, kept in state.withdrawals.items()
        },
        "receipts": state.receipts,
    }


def _read(found: dict[str, Any]) -> State:
    if found["version"] != _VERSION:
        raise KeyError("version")
    subject = found["subject"]
    return State(
        url=str(found["exchange"]),
        seed=from_hex("0x" + found["seed"], 32),
        subject=None if subject is None else SubjectId.parse(subject),
        withdrawals={
            ConsentId.parse(text): SignedConsent(
                id=ConsentId.parse(text),
                commitment=from_hex(kept["commitment"], 32),
                decision=str(kept["decision"]),
                withdraw_signature=from_hex(kept["signature"], 64),
                submission={},
            )
            for text, kept in found["withdrawals"].items()
        },
        receipts=list(found["receipts"]),
    )
