"""Verbs of enrolment: a hospital invites, a patient redeems the code, once (decision D2).

The exchange never sees a code: the invitation names the key that the code stands for, and the first
redemption signed by that key names the patient's identity key. Both signatures stand in the leaf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from exchange import log
from exchange.actor import Actor
from exchange.claims import Claim, unclaimed
from exchange.clock import Clock
from exchange.errors import Expired, InvitationRefused, InvitationUnknown, InvitationUsed, NotFound
from exchange.paging import Page, page_of
from exchange.store import schema
from exchange.store.database import Store
from ledger.errors import SignatureInvalid
from ledger.ids import OrgId, SubjectId, handle
from ledger.leaf import Kind
from ledger.messages import Domain, Invited, Redeemed, from_hex, to_hex
from ledger.signing import recover, verify

MAX_INVITATIONS: Final = 1000
#: A code lies in a letter or a message; after two years it is taken for lost.
_LONGEST_SECONDS: Final = 2 * 366 * 86_400


@dataclass(frozen=True)
class Invitation:
    """A hospital's signed invitation. ``code_key`` 20 bytes, ``expiry`` epoch seconds."""

    subject: SubjectId
    code_key: bytes
    expiry: int
    signature: bytes


@dataclass(frozen=True)
class Enrolled:
    """A subject who has redeemed: the leaf that says so."""

    subject: SubjectId
    leaf: int


class Enrolment:
    """Invitations and redemptions."""

    def __init__(self, store: Store, domain: Domain, clock: Clock) -> None:
        self._store = store
        self._domain = domain
        self._clock = clock

    def invite(
        self,
        actor: Actor,
        invitations: Sequence[Invitation],
        *,
        claim: Claim = unclaimed,
    ) -> int:
        """Take a hospital's invitations, all or none; returns how many are open.

        Inviting an open subject again replaces its code, so that a lost letter is worth nothing.
        Repeating the same invitation changes nothing.

        Raises:
            InvitationRefused: another hospital's subject, a term that is over or too long, a code
                that belongs to another subject; the pointer names the item.
            SignatureInvalid: an invitation is not signed by this hospital.
            InvitationUsed: a subject has redeemed already.
        """
        now = self._now()
        with self._store.reading() as conn:
            address = conn.execute(
                sa.select(schema.orgs.c.address).where(schema.orgs.c.org_id == actor.id)
            ).scalar_one_or_none()
        if address is None:
            raise NotFound("no such hospital")
        for index, invitation in enumerate(invitations):
            self._check(actor, index, invitation, from_hex(address, 20), now)
        for member in ("subject", "code_key"):
            values = [getattr(invitation, member) for invitation in invitations]
            if len(set(values)) != len(values):
                raise InvitationRefused(
                    "two invitations share a subject or a code", pointer="/invitations"
                )

        def work(conn: sa.Connection) -> int:
            claim(conn)
            return self._store_invitations(conn, actor, invitations)

        return self._store.transact(work)

    def _check(
        self, actor: Actor, index: int, invitation: Invitation, address: bytes, now: int
    ) -> None:
        pointer = f"/invitations/{index}"
        if invitation.subject.org.hex != actor.id:
            raise InvitationRefused(
                "the subject is another hospital's", pointer=f"{pointer}/subject"
            )
        if not now < invitation.expiry <= now + _LONGEST_SECONDS:
            raise InvitationRefused(
                "the expiry is over, or more than two years away", pointer=f"{pointer}/expiry"
            )
        try:
            verify(
                Invited(invitation.subject, invitation.code_key, invitation.expiry),
                invitation.signature,
                address,
                self._domain,
            )
        except SignatureInvalid as error:
            raise SignatureInvalid(f"invitation {index}: {error}") from None

    @staticmethod
    def _store_invitations(
        conn: sa.Connection, actor: Actor, invitations: Sequence[Invitation]
    ) -> int:
        table = schema.invitations
        by_subject: dict[str, Any] = {}
        by_code: dict[str, str] = {}
        for start in range(0, len(invitations), 500):
            chunk = invitations[start : start + 500]
            rows = conn.execute(
                sa.select(table).where(
                    sa.or_(
                        table.c.subject.in_([item.subject.hex for item in chunk]),
                        table.c.code_key.in_([to_hex(item.code_key) for item in chunk]),
                    )
                )
            ).mappings()
            for row in rows:
                by_subject[row["subject"]] = row
                by_code[row["code_key"]] = row["subject"]
        fresh: list[dict[str, Any]] = []
        for index, item in enumerate(invitations):
            subject, code = item.subject.hex, to_hex(item.code_key)
            known = by_subject.get(subject)
            if by_code.get(code, subject) != subject:
                raise InvitationRefused(
                    "the code belongs to another subject",
                    pointer=f"/invitations/{index}/codeKey",
                    next_step="draw a new code for this subject",
                )
            values = {
                "code_key": code,
                "expiry": item.expiry,
                "signature": to_hex(item.signature),
            }
            if known is None:
                fresh.append({"subject": subject, "org_id": actor.id, "status": "open", **values})
            elif all(known[name] == value for name, value in values.items()):
                continue
            elif known["status"] != "open":
                raise InvitationUsed(
                    f"subject {subject} has enrolled already",
                    next_step="leave it out: its identity key is fixed",
                )
            else:
                conn.execute(sa.update(table).where(table.c.subject == subject).values(**values))
        if fresh:
            conn.execute(sa.insert(table), fresh)
        return len(invitations)

    def find(self, code_key: bytes) -> dict[str, Any]:
        """The invitation of a code, for who holds the code: subject, hospital, expiry.

        Raises:
            InvitationUnknown: there is none.
        """
        table = schema.invitations
        with self._store.reading() as conn:
            row = (
                conn.execute(
                    sa.select(table, schema.orgs.c.name)
                    .join(schema.orgs, schema.orgs.c.org_id == table.c.org_id)
                    .where(table.c.code_key == to_hex(code_key))
                )
                .mappings()
                .first()
            )
        if row is None:
            raise InvitationUnknown("no invitation belongs to this code")
        return {
            "subject": row["subject"],
            "org": row["org_id"],
            "name": row["name"],
            "expiry": row["expiry"],
            "status": row["status"],
        }

    def redeem(
        self,
        subject: SubjectId,
        identity_key: bytes,
        signature: bytes,
        *,
        claim: Claim = unclaimed,
    ) -> Enrolled:
        """Enrol the subject under the identity key (20 bytes) that the code's key has named.

        The same redemption again gets the same answer; another one comes too late.

        Raises:
            InvitationUnknown: no invitation of this subject names the signer. Whether the subject
                exists, or the code is wrong, the answer does not say.
            InvitationUsed: the code was redeemed before, for another identity key.
            Expired: the invitation is over.
        """
        try:
            signer = recover(Redeemed(subject, identity_key), signature, self._domain)
        except SignatureInvalid:
            raise InvitationUnknown("no invitation belongs to this subject and code") from None

        def work(conn: sa.Connection) -> Enrolled:
            log.lock_head(conn)
            claim(conn)
            table = schema.invitations
            invited = (
                conn.execute(
                    sa.select(table).where(
                        table.c.subject == subject.hex, table.c.code_key == to_hex(signer)
                    )
                )
                .mappings()
                .first()
            )
            if invited is None:
                raise InvitationUnknown("no invitation belongs to this subject and code")
            known = conn.execute(
                sa.select(schema.subjects.c.identity_key, schema.subjects.c.leaf_idx).where(
                    schema.subjects.c.subject == subject.hex
                )
            ).first()
            if known is not None:
                if known.identity_key != to_hex(identity_key):
                    raise InvitationUsed("this code has been redeemed before")
                return Enrolled(subject, known.leaf_idx)
            if invited["expiry"] <= self._now():
                raise Expired(
                    "this invitation is over", next_step="ask the hospital for a new code"
                )
            entry = log.append(
                conn,
                kind=Kind.SUBJECT_ENROLLED,
                body={
                    "subject": subject.hex,
                    "org": subject.org.hex,
                    "invited": {
                        "codeKey": invited["code_key"],
                        "expiry": invited["expiry"],
                        "signature": invited["signature"],
                    },
                    "redeemed": {
                        "identityKey": to_hex(identity_key),
                        "signature": to_hex(signature),
                    },
                },
                at_ms=self._clock.now_ms(),
                subject=subject,
            )
            conn.execute(
                sa.insert(schema.subjects),
                {
                    "subject": subject.hex,
                    "handle": to_hex(handle(subject)),
                    "org_id": subject.org.hex,
                    "identity_key": to_hex(identity_key),
                    "leaf_idx": entry.index,
                },
            )
            conn.execute(
                sa.update(table).where(table.c.subject == subject.hex).values(status="redeemed")
            )
            return Enrolled(subject, entry.index)

        return self._store.transact(work)

    def subjects(self, actor: Actor, cursor: str | None, limit: int) -> Page:
        """The hospital's own subjects and whether each has enrolled, by subject id."""
        table = schema.invitations
        query = (
            sa.select(table.c.subject, table.c.status, table.c.expiry)
            .where(table.c.org_id == OrgId.parse(actor.id).hex)
            .order_by(table.c.subject)
            .limit(limit + 1)
        )
        if cursor is not None:
            query = query.where(table.c.subject > SubjectId.parse(cursor).hex)
        with self._store.reading() as conn:
            rows = conn.execute(query).mappings().all()
        items = [
            {"subject": row["subject"], "status": row["status"], "expiry": row["expiry"]}
            for row in rows
        ]
        return page_of(items, limit, lambda item: str(item["subject"]))

    def _now(self) -> int:
        return self._clock.now_ms() // 1000
