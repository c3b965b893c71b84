"""The tables, the same on SQLite and on PostgreSQL.

Ids, addresses, hashes and signatures are lower-case ``0x`` hex text; ``*_ms`` are Unix milliseconds;
``starts``, ``ends`` and ``expir*`` are epoch seconds; documents, lists and bodies are canonical JSON
text. The few binary columns are read by this room only. Rows of evidence are never deleted.

The first migration is generated from this file; a test compares the two.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# A 64-bit counter; on SQLite the row id itself, so that no second index is kept.
_Counter = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_Ms = sa.BigInteger()

# The log -----------------------------------------------------------------------------------

leaves = sa.Table(
    "leaves",
    metadata,
    sa.Column("idx", _Counter, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("skeleton", sa.LargeBinary, nullable=False),
    sa.Column("body", sa.Text),  # null once erased
    sa.Column("kind", sa.Integer, nullable=False),
    sa.Column("handle", sa.Text),  # null for leaves of no chain
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("at_ms", _Ms, nullable=False),
    sa.Column("consent_id", sa.Text),
    sa.Index(None, "handle", "kind"),
)
"""Every leaf: ``idx`` from 0 without gaps, the 142 bytes of its skeleton, its body."""

tree_nodes = sa.Table(
    "tree_nodes",
    metadata,
    sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("position", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
"""Roots of complete subtrees of 2**level leaves, level 1 and up, so that proofs read O(log n)."""

chain_heads = sa.Table(
    "chain_heads",
    metadata,
    sa.Column("handle", sa.Text, primary_key=True),
    sa.Column("chain", sa.Text, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Last leaf of each subject's two chains."""

tree_head = sa.Table(
    "tree_head",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("frontier", sa.LargeBinary, nullable=False),
)
"""One row: size and frontier of the tree. On PostgreSQL it is what admitting locks first."""

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("size", _Counter, primary_key=True, autoincrement=False),
    sa.Column("root", sa.Text, nullable=False),
    sa.Column("at_ms", _Ms, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # pending, sent, anchored
    sa.Column("tx", sa.Text),
    sa.Column("block", sa.BigInteger),
)

# Who ---------------------------------------------------------------------------------------

orgs = sa.Table(
    "orgs",
    metadata,
    sa.Column("org_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("card", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
)

auditors = sa.Table(
    "auditors",
    metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, server_default=""),
    sa.Column("jwk", sa.Text, nullable=False),
)

invitations = sa.Table(
    "invitations",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, nullable=False),
    sa.Column("code_key", sa.Text, nullable=False, unique=True),
    sa.Column("expiry", sa.BigInteger, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # open, redeemed
    sa.Index(None, "org_id", "subject"),
)

subjects = sa.Table(
    "subjects",
    metadata,
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("handle", sa.Text, nullable=False, unique=True),
    sa.Column("org_id", sa.Text, nullable=False),
    sa.Column("identity_key", sa.Text, nullable=False),
    sa.Column("leaf_idx", sa.BigInteger, nullable=False),
    sa.Index(None, "org_id", "subject"),
)

# Consents and the chain --------------------------------------------------------------------

consents = sa.Table(
    "consents",
    metadata,
    sa.Column("consent_id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False, index=True),
    sa.Column("decision", sa.Text, nullable=False),  # permit, deny
    sa.Column("terms", sa.Text, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Column("terms_signature", sa.Text, nullable=False),
    sa.Column("consent_key", sa.Text, nullable=False, unique=True),
    sa.Column("commitment", sa.Text, nullable=False, unique=True),
    sa.Column("until_day", sa.BigInteger, nullable=False),
    sa.Column("grant_signature", sa.Text, nullable=False),
    sa.Column("withdraw_signature", sa.Text),  # held for a permit, never for an objection
    sa.Column("status", sa.Text, nullable=False),  # FHIR: draft, active, inactive …
    sa.Column("starts", sa.BigInteger, nullable=False),
    sa.Column("ends", sa.BigInteger),
    sa.Column("purposes", sa.Text),  # sorted JSON list; null is any
    sa.Column("requesters", sa.Text),
    sa.Column("categories", sa.Text),
    sa.Column("actions", sa.Text, nullable=False),
    sa.Column("data_use", sa.Text, nullable=False),  # {"code", "modifiers"}
    sa.Column("supersedes", sa.Text),
    sa.Column("granted_leaf", sa.BigInteger, nullable=False),
    sa.Column("recorded_leaf", sa.BigInteger),
    sa.Column("recorded_block", sa.BigInteger),
    sa.Column("final", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("ended_leaf", sa.BigInteger),
    sa.Column("ended_by", sa.Text),  # patient, desk, superseded
)

outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("id", _Counter, primary_key=True, autoincrement=True),
    sa.Column("verb", sa.Text, nullable=False),  # grant, withdraw, anchor, admit, rotate …
    sa.Column("consent_id", sa.Text, index=True),
    sa.Column("handle", sa.Text),
    sa.Column("payload", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # pending, sent, recorded
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("tx", sa.Text),
    sa.Column("sent_ms", _Ms),
    sa.Column("created_ms", _Ms, nullable=False),
    sa.Index(None, "status", "id"),
    sa.Index(None, "handle", "status"),
)
"""Promises to the chain, in the order in which they were made. Never deleted: a chain that lost
everything is refilled from here."""

chain_cursor = sa.Table(
    "chain_cursor",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.Text, nullable=False),
    sa.Column("history", sa.Text, nullable=False),
    sa.Column("answered_ms", _Ms, nullable=False),
)
"""How far the chain was followed, and when the node last answered. No row: it never did."""

# Catalogue ---------------------------------------------------------------------------------

datasets = sa.Table(
    "datasets",
    metadata,
    sa.Column("dataset_id", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, nullable=False, index=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # notes, fhir, table
    sa.Column("categories", sa.Text, nullable=False),
    sa.Column("created_ms", _Ms, nullable=False),
)

dataset_versions = sa.Table(
    "dataset_versions",
    metadata,
    sa.Column("dataset_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    # draft, received, inspecting, published, refused, retired
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("manifest", sa.Text, nullable=False),
    sa.Column("manifest_signature", sa.Text, nullable=False),
    sa.Column("manifest_digest", sa.Text, nullable=False),
    sa.Column("report", sa.Text),
    sa.Column("quality", sa.Text),
    sa.Column("blob", sa.Text),
    sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("subjects", sa.Integer, nullable=False, server_default="0"),
    sa.Column("records", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("leaf_idx", sa.BigInteger),
)

parts = sa.Table(
    "parts",
    metadata,
    sa.Column("dataset_id", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("length", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("records", sa.Integer, nullable=False),
    sa.Column("state", sa.Text, nullable=False, server_default="ok"),  # ok, quarantined
    sa.Index(None, "subject"),
    sqlite_with_rowid=False,
)

# Releases, jobs, models --------------------------------------------------------------------

releases = sa.Table(
    "releases",
    metadata,
    sa.Column("release_id", sa.Text, primary_key=True),
    sa.Column("requester", sa.Text, nullable=False, index=True),
    sa.Column("dataset_id", sa.Text, nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("request", sa.Text, nullable=False),
    sa.Column("request_digest", sa.Text, nullable=False, unique=True),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),  # decided, streaming, closed, denied
    sa.Column("leaf_idx", sa.BigInteger),
    sa.Column("closing_leaf", sa.BigInteger),
    sa.Column("permitted", sa.Integer, nullable=False),
    sa.Column("withheld", sa.Integer, nullable=False),
    sa.Column("created_ms", _Ms, nullable=False),
)

release_subjects = sa.Table(
    "release_subjects",
    metadata,
    sa.Column("release_id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("because", sa.Text, nullable=False),
    sa.Column("leaf_idx", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # permitted, withheld, delivered, stopped
    sa.Index(None, "subject"),
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("requester", sa.Text, nullable=False, index=True),
    sa.Column("dataset_id", sa.Text),
    sa.Column("version", sa.Integer),
    sa.Column("model", sa.Text),
    sa.Column("spec", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False, index=True),
    sa.Column("progress", sa.Integer, nullable=False, server_default="0"),
    sa.Column("detail", sa.Text),
    sa.Column("covered", sa.Integer),
    sa.Column("withheld", sa.Integer),
    sa.Column("used", sa.Integer),
    sa.Column("dropped", sa.Integer),
    sa.Column("input", sa.Text),
    sa.Column("result", sa.Text),
    sa.Column("result_digest", sa.Text),
    sa.Column("leaf_idx", sa.BigInteger),
    sa.Column("closing_leaf", sa.BigInteger),
    sa.Column("created_ms", _Ms, nullable=False),
    sa.Column("updated_ms", _Ms, nullable=False),
)

job_subjects = sa.Table(
    "job_subjects",
    metadata,
    sa.Column("job_id", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("slot", sa.Integer),
    sa.Column("consent_id", sa.Text),
    sa.Column("decision", sa.Text, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("leaf_idx", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Index(None, "subject"),
)

models = sa.Table(
    "models",
    metadata,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("org_id", sa.Text, nullable=False, index=True),
    sa.Column("card", sa.Text, nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("leaf_idx", sa.BigInteger, nullable=False),
)

# The door ----------------------------------------------------------------------------------

idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("actor", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("route", sa.Text, nullable=False),
    sa.Column("request_digest", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),  # null while the first request is running
    sa.Column("headers", sa.Text),
    sa.Column("body", sa.Text),
    sa.Column("created_ms", _Ms, nullable=False, index=True),
)

challenges = sa.Table(
    "challenges",
    metadata,
    sa.Column("challenge", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False, index=True),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("token_hash", sa.Text, primary_key=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("actor_id", sa.Text, nullable=False),
    sa.Column("expires", sa.BigInteger, nullable=False, index=True),
)

jtis = sa.Table(
    "jtis",
    metadata,
    sa.Column("client_id", sa.Text, primary_key=True),
    sa.Column("jti", sa.Text, primary_key=True),
    sa.Column("expires", sa.BigInteger, nullable=False, index=True),
)
