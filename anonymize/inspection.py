"""What a person could read in a structured record: the strings an inspection looks through.

Left out are only strings of a form that cannot name anybody: UUIDs of version 8 (our own ids and
references to them), OIDs made from them, and the addresses of public terminologies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import regex

from anonymize.fhir.attachment import read_attachment
from anonymize.fhir.schema import PUBLIC_SYSTEMS
from anonymize.fhir.walk import public

_OURS = regex.compile(
    r"(?:[A-Z][A-Za-z]{2,40}(?:/|\?identifier=)|urn:uuid:|#)?"
    r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|2\.25\.\d{30,39}"
)
_INSTANT = regex.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d)?)?)?)?")


def strings(value: object, position: str) -> Iterator[str]:
    """Yield every readable string in a JSON value.

    Raises:
        RecordUnreadable: an attachment that says it is text is none.
    """
    if isinstance(value, str):
        if _readable(value):
            yield value
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner, position)
    elif isinstance(value, Mapping):
        yield from _of_object(value, position)


def _of_object(value: Mapping[str, object], position: str) -> Iterator[str]:
    text = read_attachment(value, position) if "contentType" in value else None
    if text is not None:
        yield text
    coded = public(value.get("system"))
    for key, inner in value.items():
        if key == "data" and text is not None:
            continue
        if key == "code" and coded:  # a public terminology's number, however long
            continue
        if isinstance(inner, str) and key not in {"text", "display", "div"}:
            # The name of an element is a label: {"ssn": "123456789"} is found by it.
            if _readable(inner):
                yield f"{key}: {inner}"
        else:
            yield from strings(inner, position)


def _readable(value: str) -> bool:
    return not (_OURS.fullmatch(value) or _INSTANT.fullmatch(value) or _is_public(value))


def _is_public(value: str) -> bool:
    return value.startswith(PUBLIC_SYSTEMS) and not regex.search(r"[\s@?]|\d{7,}\Z", value)
