"""Valid things by default, one change per test: hospitals, subjects and consents, really signed.

Nothing here is a stand-in: keys are drawn, documents are canonical, signatures verify. ``enrol`` and
``grant`` write rows, leaves and promises as the exchange's own doors do, without HTTP.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from exchange import log, outbox
from exchange.store.consents import document_columns
from exchange.store.database import Store
from exchange.store.schema import (
    chain_cursor,
    consents,
    dataset_versions,
    datasets,
    invitations,
    orgs,
    subjects,
)
from ledger.commitment import canonical
from ledger.consent import Decision, ParsedDocument, parse_document
from ledger.ids import ConsentId, DatasetId, OrgId, SubjectId, handle
from ledger.leaf import Kind
from ledger.signing import (
    Domain,
    Grant,
    Invited,
    Key,
    Redeemed,
    Terms,
    Withdraw,
    code_key,
    identity_key,
    new_code,
    sign_document,
    to_hex,
)

NOW_MS = 1_800_000_000_000
"""2027-01-15T08:00:00Z: the time of every stopped clock."""

YEAR = 365 * 86_400
NOTICE_HASH = hashlib.sha256(b"the notice that was shown").digest()


class FixedClock:
    """A clock that moves only when it is told to."""

    def __init__(self, now_ms: int = NOW_MS) -> None:
        self.ms = now_ms

    def now_ms(self) -> int:
        """Return the time that was set."""
        return self.ms

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds; negative ones go back."""
        self.ms += int(seconds * 1000)


@dataclass(frozen=True)
class Hospital:
    """A hospital with its signing key and its signed card."""

    key: Key
    name: str
    receive_key: bytes
    card: dict[str, Any]
    card_signature: bytes

    @property
    def org(self) -> OrgId:
        return OrgId.of_address(self.key.address)


@dataclass(frozen=True)
class Subject:
    """A subject whom a hospital has invited, with what only the patient holds."""

    hospital: Hospital
    id: SubjectId
    code: bytes
    code_key: Key
    seed: bytes
    identity: Key
    expiry: int
    domain: Domain

    @property
    def handle(self) -> bytes:
        return handle(self.id)

    @property
    def invited(self) -> bytes:
        """The hospital's signature of the invitation."""
        message = Invited(self.id, self.code_key.address, self.expiry)
        return self.hospital.key.sign(message, self.domain)

    @property
    def redeemed(self) -> bytes:
        """The code key's signature that names the identity key."""
        return self.code_key.sign(Redeemed(self.id, self.identity.address), self.domain)


@dataclass(frozen=True)
class SignedConsent:
    """A consent document with every signature that D2 asks for."""

    subject: Subject
    document: dict[str, Any]
    terms: Terms
    terms_signature: bytes
    grant_signature: bytes
    withdraw_signature: bytes
    consent_key: Key = field(repr=False)

    @property
    def id(self) -> ConsentId:
        return self.terms.consent_id()

    @property
    def is_permit(self) -> bool:
        return self.parsed.decision is Decision.PERMIT

    @property
    def parsed(self) -> ParsedDocument:
        return parse_document(self.document)

    def submission(self) -> dict[str, Any]:
        """Return the body of ``POST /v1/consents``."""
        return {
            "terms": self.terms.to_json(),
            "termsSignature": to_hex(self.terms_signature),
            "document": self.document,
            "grantSignature": to_hex(self.grant_signature),
            "withdrawSignature": to_hex(self.withdraw_signature) if self.is_permit else None,
        }

    def row(self, granted_leaf: int, *, status: str = "draft") -> dict[str, Any]:
        """Return the values of a row of ``consents``."""
        return {
            "consent_id": self.id.hex,
            **document_columns(self.parsed),
            "terms": canonical(self.terms.to_json()).decode(),
            "document": canonical(self.document).decode(),
            "terms_signature": to_hex(self.terms_signature),
            "consent_key": to_hex(self.terms.consent_key),
            "commitment": to_hex(self.terms.commitment()),
            "until_day": self.terms.until_day,
            "grant_signature": to_hex(self.grant_signature),
            "withdraw_signature": to_hex(self.withdraw_signature) if self.is_permit else None,
            "status": status,
            "granted_leaf": granted_leaf,
            "final": status == "active",
        }


def a_domain() -> Domain:
    """A deployment of the test's own."""
    return Domain(secrets.token_bytes(32))


def a_hospital(name: str = "Hospital A") -> Hospital:
    """A hospital with fresh keys and a card that it signed itself, outside any deployment."""
    from exchange.documents import CARD_DOMAIN, CARD_KIND

    key = Key.new()
    receive_key = secrets.token_bytes(32)
    card = {
        "kind": CARD_KIND,
        "org": OrgId.of_address(key.address).hex,
        "name": name,
        "address": to_hex(key.address),
        "receiveKey": to_hex(receive_key),
        "authJwk": {"kty": "EC", "crv": "P-256", "x": "", "y": "", "kid": "1"},
        "made": NOW_MS // 1000,
    }
    return Hospital(key, name, receive_key, card, sign_document(key, CARD_KIND, card, CARD_DOMAIN))


def a_subject(hospital: Hospital, *, domain: Domain, expiry: int | None = None) -> Subject:
    """A subject whom the hospital has invited, with a code and an identity key of their own."""
    seed, code = secrets.token_bytes(32), new_code()
    return Subject(
        hospital=hospital,
        id=SubjectId.new(hospital.org),
        code=code,
        code_key=code_key(code),
        seed=seed,
        identity=identity_key(seed, hospital.org),
        expiry=NOW_MS // 1000 + YEAR if expiry is None else expiry,
        domain=domain,
    )


def a_document(subject: Subject, **changes: Any) -> dict[str, Any]:
    """A consent document ``assent.consent/1`` for research on everything, with these changes."""
    document = {
        "grammar": "assent.consent/1",
        "decision": "permit",
        "subject": subject.id.hex,
        "purpose": ["HRESCH"],
        "requester": "*",
        "categories": "*",
        "actions": ["disclose", "use"],
        "dataUse": {"code": "DUO:0000042", "modifiers": []},
        "from": NOW_MS // 1000 - 60,
        "until": NOW_MS // 1000 + YEAR,
        "supersedes": None,
        "locale": "en",
        "notice": to_hex(NOTICE_HASH),
    }
    unknown = set(changes) - set(document)
    if unknown:
        raise ValueError(f"not a member of a consent document: {sorted(unknown)}")
    return {**document, **changes}


def a_consent(subject: Subject, *, sign_by: int | None = None, **changes: Any) -> SignedConsent:
    """A consent of the subject, signed by the identity key and by a fresh consent key.

    ``changes`` are members of the document; ``from_`` stands for ``from``.
    """
    if "from_" in changes:
        changes["from"] = changes.pop("from_")
    document = a_document(subject, **changes)
    consent_key = Key.new()
    terms = Terms.of_document(
        document,
        sign_by=NOW_MS // 1000 + 3600 if sign_by is None else sign_by,
        consent_key=consent_key.address,
        salt=secrets.token_bytes(32),
    )
    commitment, until_day = terms.commitment(), terms.until_day
    return SignedConsent(
        subject=subject,
        document=document,
        terms=terms,
        terms_signature=subject.identity.sign(terms, subject.domain),
        grant_signature=consent_key.sign(Grant(commitment, until_day), subject.domain),
        withdraw_signature=consent_key.sign(Withdraw(commitment, until_day), subject.domain),
        consent_key=consent_key,
    )


def pin(store: Store, *hospitals: Hospital, at_ms: int = NOW_MS) -> None:
    """Write the hospitals' rows and their leaves."""

    def work(conn: sa.Connection) -> None:
        for hospital in hospitals:
            signed = {"card": hospital.card, "signature": to_hex(hospital.card_signature)}
            row = {
                "org_id": hospital.org.hex,
                "name": hospital.name,
                "address": to_hex(hospital.key.address),
                "card": canonical(signed).decode(),
                "status": "member",
            }
            conn.execute(sa.insert(orgs), row)
            log.append(
                conn,
                kind=Kind.PARTICIPANT_PINNED,
                body={"org": hospital.org.hex, "card": signed},
                at_ms=at_ms,
            )

    store.transact(work)


def enrol(store: Store, *enrolled: Subject, at_ms: int = NOW_MS) -> None:
    """Write the subjects' redeemed invitations, rows and enrolment leaves."""

    def work(conn: sa.Connection) -> None:
        signed = [(one, to_hex(one.invited), to_hex(one.redeemed)) for one in enrolled]
        entries = log.append_many(
            conn,
            [
                log.Draft(
                    Kind.SUBJECT_ENROLLED,
                    {
                        "subject": one.id.hex,
                        "org": one.hospital.org.hex,
                        "invited": {
                            "codeKey": to_hex(one.code_key.address),
                            "expiry": one.expiry,
                            "signature": invited,
                        },
                        "redeemed": {
                            "identityKey": to_hex(one.identity.address),
                            "signature": redeemed,
                        },
                    },
                    one.id,
                )
                for one, invited, redeemed in signed
            ],
            at_ms,
        )
        conn.execute(
            sa.insert(invitations),
            [
                {
                    "subject": one.id.hex,
                    "org_id": one.hospital.org.hex,
                    "code_key": to_hex(one.code_key.address),
                    "expiry": one.expiry,
                    "signature": invited,
                    "status": "redeemed",
                }
                for one, invited, _ in signed
            ],
        )
        conn.execute(
            sa.insert(subjects),
            [
                {
                    "subject": one.id.hex,
                    "handle": to_hex(one.handle),
                    "org_id": one.hospital.org.hex,
                    "identity_key": to_hex(one.identity.address),
                    "leaf_idx": entry.index,
                }
                for (one, _, _), entry in zip(signed, entries, strict=True)
            ],
        )

    if enrolled:
        store.transact(work)


def grant(
    store: Store, *granted: SignedConsent, recorded: bool = True, at_ms: int = NOW_MS
) -> None:
    """Write consents as rows, leaves and promises; ``recorded`` as if the chain held them."""

    def work(conn: sa.Connection) -> None:
        entries = log.append_many(
            conn,
            [
                log.Draft(
                    Kind.CONSENT_GRANTED if one.is_permit else Kind.OBJECTION_RECORDED,
                    {
                        "terms": one.terms.to_json(),
                        "termsSignature": to_hex(one.terms_signature),
                        "document": one.document,
                        "grant": {
                            "untilDay": one.terms.until_day,
                            "signature": to_hex(one.grant_signature),
                        },
                    },
                    one.subject.id,
                    one.id,
                )
                for one in granted
            ],
            at_ms,
        )
        rows = [one.row(entry.index) for one, entry in zip(granted, entries, strict=True)]
        conn.execute(sa.insert(consents), rows)
        for row in rows:
            outbox.promise_grant(conn, row, at_ms)
        if recorded:
            record(conn, *(one for one in granted), at_ms=at_ms)

    if granted:
        store.transact(work)


def record(conn: sa.Connection, *granted: SignedConsent, at_ms: int = NOW_MS) -> None:
    """Write that the chain holds these consents: leaf, row and kept promise."""
    entries = log.append_many(
        conn,
        [
            log.Draft(
                Kind.CONSENT_RECORDED,
                {"block": 1, "blockHash": to_hex(bytes(32)), "transaction": to_hex(bytes(32))},
                one.subject.id,
                one.id,
            )
            for one in granted
        ],
        at_ms,
    )
    for one, entry in zip(granted, entries, strict=True):
        conn.execute(
            sa.update(consents)
            .where(consents.c.consent_id == one.id.hex)
            .values(status="active", final=True, recorded_leaf=entry.index, recorded_block=1)
        )
    outbox.mark_recorded(conn, [one.id for one in granted], verb="grant")


def withdraw(store: Store, consent: SignedConsent, *, at_ms: int = NOW_MS) -> None:
    """Write a patient's withdrawal of a permit: leaf, row and promise, effective at once."""

    def work(conn: sa.Connection) -> None:
        log.lock_head(conn)
        entry = log.append(
            conn,
            kind=Kind.CONSENT_WITHDRAWN,
            body={
                "commitment": to_hex(consent.terms.commitment()),
                "untilDay": consent.terms.until_day,
                "signature": to_hex(consent.withdraw_signature),
                "by": "patient",
                "desk": None,
            },
            at_ms=at_ms,
            subject=consent.subject.id,
            consent=consent.id,
        )
        mine = consents.c.consent_id == consent.id.hex
        conn.execute(
            sa.update(consents)
            .where(mine)
            .values(status="inactive", ended_leaf=entry.index, ended_by="patient")
        )
        row = conn.execute(sa.select(consents).where(mine)).mappings().one()
        outbox.promise_withdraw(conn, row, at_ms)

    store.transact(work)


def node_answered(store: Store, at_ms: int = NOW_MS) -> None:
    """Write that the node answered at this time, so that the chain is not stale."""

    def work(conn: sa.Connection) -> None:
        conn.execute(sa.delete(chain_cursor))
        row = {"id": 1, "number": 1, "hash": to_hex(bytes(32)), "history": "[]"}
        conn.execute(sa.insert(chain_cursor), {**row, "answered_ms": at_ms})

    store.transact(work)


def a_published_dataset(
    store: Store, hospital: Hospital, *, categories: tuple[str, ...] = ("notes",), version: int = 1
) -> DatasetId:
    """Write a published dataset version without parts."""
    dataset = DatasetId.new()

    def work(conn: sa.Connection) -> None:
        conn.execute(
            sa.insert(datasets),
            {
                "dataset_id": dataset.hex,
                "org_id": hospital.org.hex,
                "title": "Discharge notes",
                "description": "",
                "kind": "notes",
                "categories": canonical(sorted(categories)).decode(),
                "created_ms": NOW_MS,
            },
        )
        conn.execute(
            sa.insert(dataset_versions),
            {
                "dataset_id": dataset.hex,
                "version": version,
                "status": "published",
                "manifest": "{}",
                "manifest_signature": "0x",
                "manifest_digest": "0x",
            },
        )

    store.transact(work)
    return dataset
