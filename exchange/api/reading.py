"""Ids, hex and cursors as they stand in addresses, queries and bodies."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from exchange.errors import Malformed

LARGEST_PAGE: Final = 200

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE)]
Cursor = Annotated[str | None, Query(max_length=80)]
OrgText = Annotated[str, Field(pattern=r"^0x[0-9a-f]{16}$")]
Hex20 = Annotated[str, Field(pattern=r"^0x[0-9a-f]{40}$")]
Hex32 = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
Signature = Annotated[str, Field(pattern=r"^0x[0-9a-f]{128}$")]
Seconds = Annotated[int, Field(ge=0, lt=2**53, strict=True)]


class Body(BaseModel):
    """A JSON body whose every member is known."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def leaf_cursor(text: str | None) -> int | None:
    """A cursor that is a leaf's index.

    Raises:
        Malformed: it is something else.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise Malformed(
            "the cursor is none of ours",
            pointer="/cursor",
            next_step="use the next cursor of the page before, or none",
        )
    return int(text)
