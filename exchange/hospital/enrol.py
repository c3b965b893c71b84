"""Enrol patients: a subject and a code for each, and a signed invitation at the exchange (decision D2).

The code goes to the patient out of band (a letter); the exchange sees only the address of the key that
is derived from it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from exchange.hospital.client import ExchangeClient
from exchange.hospital.identity import Identity
from exchange.hospital.subjects import Enrolled, SubjectMap
from exchange.private_file import write_private
from ledger.signing import Invited, code_key

#: How long a patient has to redeem a code, by default: 90 days.
VALID_SECONDS = 90 * 24 * 3600
_BATCH = 500


def enrol(
    client: ExchangeClient,
    identity: Identity,
    subjects: SubjectMap,
    records: Iterable[str],
    *,
    valid_seconds: int = VALID_SECONDS,
) -> list[Enrolled]:
    """Make subjects for these record numbers and invite those that were not invited yet.

    Repeating it invites nobody twice; a run that broke off is finished by the next one.

    Raises:
        Problem: the exchange refused.
    """
    entries = subjects.add(records, valid_seconds=valid_seconds)
    domain = identity.pins().domain
    waiting = [entry for entry in entries if not entry.invited]
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        invitations = []
        for entry in batch:
            address = code_key(entry.code).address
            signature = identity.signing.sign(Invited(entry.subject, address, entry.expiry), domain)
            invitations.append(
                {
                    "subject": entry.subject.hex,
                    "codeKey": "0x" + address.hex(),
                    "expiry": entry.expiry,
                    "signature": "0x" + signature.hex(),
                }
            )
        client.post("/v1/invitations", {"invitations": invitations})
        subjects.mark_invited(entry.subject for entry in batch)
    return entries


def write_letters(entries: Iterable[Enrolled], path: Path) -> int:
    """Write ``record,subject,code`` for the letters to patients; only the owner may read the file.

    Returns how many lines were written.
    """
    lines = [["record", "subject", "code"]]
    lines += [[entry.record, entry.subject.hex, entry.printed_code] for entry in entries]
    text = "".join(",".join(_quoted(cell) for cell in line) + "\r\n" for line in lines)
    write_private(path, text.encode())
    return len(lines) - 1


def read_records(path: Path, column: str | None) -> list[str]:
    """The record numbers in a CSV file with a header (its first column by default).

    Raises:
        OSError: the file cannot be read.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        name = column or (reader.fieldnames or [""])[0]
        return [row[name] for row in reader if row.get(name)]


def _quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"' if any(c in cell for c in ',"\r\n') else cell
