"""Bringing a database up to date, from the revisions in ``exchange/migrations``.

Several processes start at once: SQLite's callers hold the store's lock file, PostgreSQL's take an
advisory lock for the length of the transaction, so one of them migrates and the others find it
done.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from exchange.errors import SchemaUnknown

HEAD = "0002"
"""The newest revision in ``exchange/migrations/versions``; a test compares the two."""

FOLDER = Path(__file__).resolve().parent.parent / "migrations"

# Any constant of our own: "assent" in ASCII.
_ADVISORY_LOCK = 0x617373656E74


def current(conn: Connection) -> str | None:
    """Return the database's revision, or None for a database without tables of ours."""
    if not sa.inspect(conn).has_table("alembic_version"):
        return None
    found = conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    return None if found is None else str(found)


def require_current(conn: Connection) -> None:
    """Return if the database has the newest revision.

    Raises:
        SchemaUnknown: it has another one, or none.

    """
    found = current(conn)
    if found != HEAD:
        raise SchemaUnknown(
            f"the database is at revision {found or 'none'}, this version needs {HEAD}",
            next_step="start the api or the worker of this version first, which migrates it",
        )


def upgrade(conn: Connection) -> None:
    """Run the missing revisions in this transaction.

    Raises:
        SchemaUnknown: the database was made by a newer version.

    """
    if conn.dialect.name == "postgresql":
        conn.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    if current(conn) == HEAD:
        return
    # Alembic takes a quarter of a second to import; an up-to-date database needs none of it.
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = conn
    try:
        command.upgrade(config, "head")
    except CommandError:
        raise SchemaUnknown(
            f"the database is at revision {current(conn)}, which this version does not know",
            next_step="run the version that made it, or a newer one",
        ) from None
