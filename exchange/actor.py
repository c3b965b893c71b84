"""Who is at the door, once that is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exchange.errors import NotEntitled


class Role(StrEnum):
    """What an actor may be. A role that may not is told the same as for a thing that is not."""

    SUBJECT = "subject"
    HOSPITAL = "hospital"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Actor:
    """A role and the id it holds.

    ``id`` is the ``0x`` hex of the subject id or organisation id, or the auditor's client id.
    """

    role: Role
    id: str

    @property
    def key(self) -> str:
        """Role and id in one text: the owner of an idempotency key or a token."""
        return f"{self.role}:{self.id}"

    def require(self, *roles: Role) -> Actor:
        """Return the actor if it has one of the roles.

        Raises:
            NotEntitled: it has none of them.

        """
        if self.role not in roles:
            raise NotEntitled(f"role {self.role} may not")
        return self
