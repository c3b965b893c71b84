"""FHIR R4 `Attachment`: base64 text goes through the note engine, anything else does not leave."""

from __future__ import annotations

import base64
import binascii
import codecs
from collections.abc import Mapping
from typing import Any

from anonymize.errors import RecordUnreadable

_MAX_BASE64 = 16 * 1024 * 1024
_CHARSETS = frozenset({"utf-8", "ascii", "iso8859-1", "cp1252"})


def read_attachment(value: Mapping[str, Any], position: str) -> str | None:
    """Return the text of a `text/plain` attachment; None for other types and for mere links.

    Raises:
        RecordUnreadable: the data is not base64, not text, or in an unknown character set.
    """
    content_type = value.get("contentType", "")
    data = value.get("data")
    if data is None or not isinstance(content_type, str):
        return None
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() != "text/plain":
        return None
    if not isinstance(data, str) or len(data) > _MAX_BASE64:
        raise RecordUnreadable("bad-attachment", f"{position}.data", "not base64, or too long")
    try:
        raw = base64.b64decode("".join(data.split()), validate=True)
        return raw.decode(_charset(parameters))
    except (binascii.Error, ValueError):
        raise RecordUnreadable(
            "bad-attachment", f"{position}.data", "not base64 of text in the stated charset"
        ) from None


def write_attachment(text: str) -> dict[str, str]:
    """Return `contentType` and `data` of a text; url, size and hash of the original do not stay."""
    return {
        "contentType": "text/plain; charset=utf-8",
        "data": base64.b64encode(text.encode("utf-8")).decode("ascii"),
    }


def _charset(parameters: str) -> str:
    name = "utf-8"
    for parameter in parameters.split(";"):
        key, _, given = parameter.partition("=")
        if key.strip().lower() == "charset":
            name = given.strip().strip('"')
    try:
        name = codecs.lookup(name).name
    except LookupError:
        raise ValueError from None
    if name not in _CHARSETS:
        raise ValueError
    return name
