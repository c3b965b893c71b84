"""Every check is shown to notice what it is for: on copies of a store that was found sound."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace

from exchange.store.database import Store
from ledger.interface import ChainStatus
from tests.faults import checks
from tests.faults.book import Ack, Delivery


def run(store_file, folder, book, deployment, status_of):
    """(what was damaged, what noticed it or None) for each damage."""
    granted = next(ack for ack in book.acks if ack.verb == "grant")
    gone = {ack.consent for ack in book.acks if ack.verb == "withdraw"}
    withdrawn = next(ack for ack in book.acks if ack.verb == "withdraw")
    delivery = next(one for one in book.deliveries if one.subjects)
    never = next(
        ack.consent for ack in book.acks if ack.verb == "grant" and ack.consent not in gone
    )
    found = []

    def damaged(what, statement, parameters, check, prefix):
        copy = folder / "damaged.sqlite"
        copy.unlink(missing_ok=True)
        with closing(sqlite3.connect(store_file)) as source, closing(sqlite3.connect(copy)) as db:
            source.backup(db)
            if db.execute(statement, parameters).rowcount < 1:
                raise AssertionError(f"the self-test changed nothing: {what}")
            db.commit()
            # A copy of its own: no log beside it, so that the next one does not meet its pages.
            db.execute("PRAGMA journal_mode=DELETE")
        store = Store.open(f"sqlite:///{copy}", read_only=True, migrate=False)
        try:
            with store.reading() as conn:
                lines = check(conn)
        finally:
            store.close()
        found.append((what, next((line for line in lines if line.startswith(prefix)), None)))

    def broken(conn):
        return checks.log_breaks(conn, deployment)

    def lost(conn):
        return checks.lost(conn, book.acks)

    def unrecorded(conn):
        return checks.unrecorded(conn, book.deliveries)

    def open_work(conn):
        return checks.unfinished(conn, book)

    def promised(conn):
        return checks.off_chain(conn, [], status_of)

    here, release = (granted.consent,), delivery.release
    for what, statement, parameters, check, prefix in (
        (
            "an acknowledged consent's row is dropped",
            *("DELETE FROM consents WHERE consent_id = ?", here, lost, "lost"),
        ),
        (
            "an acknowledged consent's leaf is dropped",
            *("DELETE FROM leaves WHERE consent_id = ? AND kind = 2", here, lost, "lost"),
        ),
        (
            "a promise to the chain is dropped",
            *("DELETE FROM outbox WHERE consent_id = ?", here, lost, "lost"),
        ),
        (
            "a withdrawn consent lives again",
            "UPDATE consents SET status = 'active' WHERE consent_id = ?",
            *((withdrawn.consent,), lost, "lost"),
        ),
        (
            "the log's last leaf is cut off",
            "DELETE FROM leaves WHERE idx = (SELECT max(idx) FROM leaves)",
            *((), broken, "log"),
        ),
        (
            "a leaf is changed",
            (
                "UPDATE leaves SET skeleton = (SELECT skeleton FROM leaves WHERE idx = 2), "
                "hash = (SELECT hash FROM leaves WHERE idx = 2) WHERE idx = 3"
            ),
            *((), broken, "log"),
        ),
        (
            "a leaf's body is changed",
            "UPDATE leaves SET body = (SELECT body FROM leaves WHERE idx = 2) WHERE idx = 3",
            *((), broken, "log"),
        ),
        (
            "a chain's head is moved back",
            "UPDATE chain_heads SET seq = seq - 1 WHERE seq > 0",
            *((), broken, "log"),
        ),
        (
            "a checkpoint has another root",
            (
                "UPDATE checkpoints SET root = '0x' || lower(hex(randomblob(32))) "
                "WHERE size = (SELECT max(size) FROM checkpoints)"
            ),
            *((), broken, "log"),
        ),
        (
            "a checkpoint has another signature",
            (
                "UPDATE checkpoints SET signature = '0x' || lower(hex(randomblob(64))) "
                "WHERE size = (SELECT max(size) FROM checkpoints)"
            ),
            *((), broken, "log"),
        ),
        (
            "a release's decision is dropped",
            "DELETE FROM leaves WHERE kind = 40 AND body LIKE ?",
            *((f"%{release}%",), unrecorded, "unrecorded"),
        ),
        (
            "the rulings of a release are dropped",
            "DELETE FROM leaves WHERE kind = 16 AND body LIKE ?",
            *((f"%{release}%",), unrecorded, "unrecorded"),
        ),
        (
            "a release is left open",
            "UPDATE releases SET status = 'streaming' WHERE release_id = ?",
            *((release,), open_work, "unfinished"),
        ),
        (
            "a promise is not kept",
            "UPDATE outbox SET status = 'pending' WHERE verb = 'grant' AND consent_id = ?",
            *(here, promised, "off chain"),
        ),
    ):
        damaged(what, statement, parameters, check, prefix)

    store = Store.open(f"sqlite:///{store_file}", read_only=True, migrate=False)
    try:
        with store.reading() as conn:

            def told(what, lines, prefix):
                found.append((what, next((one for one in lines if one.startswith(prefix)), None)))

            unknown = Ack("grant", "0x" + "5a" * 32, granted.subject, granted.at_ms, None, None)
            told(
                "an acknowledgement that the store never saw", checks.lost(conn, [unknown]), "lost"
            )
            early = replace(delivery, first_ms=0)
            told(
                "bytes that came before their decision",
                checks.unrecorded(conn, [early]),
                "unrecorded",
            )
            forged = Delivery("0x" + "5a" * 16, delivery.requester, 1, 2, delivery.subjects, True)
            told("a file that no release explains", checks.unrecorded(conn, [forged]), "unrecorded")

            def blind(consent):
                return (ChainStatus.NONE, 0) if consent.hex() == never[2:] else status_of(consent)

            told(
                "the chain has lost a consent",
                checks.off_chain(conn, book.acks, blind),
                "off chain",
            )
    finally:
        store.close()
    late = book.copy()
    for (verb, consent), (subject, began) in list(late.begun.items()):
        if verb == "grant" and subject == delivery.subjects[0]:
            late.acks.append(Ack("withdraw", consent, subject, 1, None, None))
            late.begun[verb, consent] = (subject, began)
    lines = checks.unwanted(late)
    found.append(("records came of somebody who had withdrawn", next(iter(lines), None)))
    return found
