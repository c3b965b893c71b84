"""The log may only grow: on PostgreSQL the role that owns it gives up changing and deleting leaves.

What stays allowed is emptying a body, which is how records are erased. A role can take its own rights
back, so this stops mistakes and injected statements; that nobody forged the log is what proofs show.
SQLite knows no roles.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE UPDATE, DELETE, TRUNCATE ON leaves, tree_nodes FROM CURRENT_USER")
        op.execute("GRANT UPDATE (body) ON leaves TO CURRENT_USER")


def downgrade() -> None:
    """Undo the revision."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("GRANT UPDATE, DELETE, TRUNCATE ON leaves, tree_nodes TO CURRENT_USER")
