"""What callers hand in and get back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from anonymize.context import PatientContext
    from anonymize.profile import Identifier
    from anonymize.table import TableSchema

RecordKind = Literal["note", "fhir", "row"]


@dataclass(frozen=True)
class Record:
    """One record of one subject.

    `subject` is the caller's handle for the person (any stable string; it keys pseudonyms and
    date offsets and is handed back unchanged). `content` is a note's text, a FHIR resource as a
    dict or as JSON text, or a row as a dict from column to cell. `position` says where the record
    stood (file and line), for messages. `schema` is needed for rows only.
    """

    kind: RecordKind
    subject: str
    content: str | dict[str, Any]
    context: PatientContext | None = None
    position: str = "record"
    schema: TableSchema | None = None

    def __repr__(self) -> str:
        """Show where the record stood, never what it holds."""
        return f"Record(kind={self.kind!r}, position={self.position!r})"


@dataclass(frozen=True)
class Released:
    """The record may leave: `record` is the de-identified one, without its context."""

    record: Record
    counts: Mapping[Identifier, int]


@dataclass(frozen=True)
class Quarantined:
    """The record must not leave. `reason_code` is one of the stable codes of `errors`."""

    position: str
    reason_code: str


Outcome = Released | Quarantined


@dataclass(frozen=True)
class Finding:
    """How often one kind of identifier was found in a record that should hold none."""

    kind: Identifier
    count: int
