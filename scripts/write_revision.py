"""Write the first revision of the database from `exchange/store/schema.py`, as `make gen` does.

Before the first release there is one revision, and this rewrites it. Afterwards a change of the
tables is a revision of its own, made by hand from `alembic revision --autogenerate`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import sqlalchemy as sa  # noqa: E402 - the repository's root comes first
from alembic.autogenerate import produce_migrations, render_python_code  # noqa: E402
from alembic.migration import MigrationContext  # noqa: E402

from exchange.store import migrate, schema  # noqa: E402

TARGET = migrate.FOLDER / "versions" / "0001_first.py"
HEAD_ROW = """
    # The log begins empty; its head is also the row that admitting locks.
    op.bulk_insert(
        sa.table("tree_head", sa.column("id"), sa.column("size"), sa.column("frontier")),
        [{"id": 1, "size": 0, "frontier": bytes(8)}],
    )
"""


def main() -> None:
    """Write the file and format it."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as conn:
        context = MigrationContext.configure(conn, opts={"target_metadata": schema.metadata})
        script = produce_migrations(context, schema.metadata)
        upgrade, downgrade = (
            render_python_code(ops, render_as_batch=False, migration_context=context)
            for ops in (script.upgrade_ops, script.downgrade_ops)
        )
    engine.dispose()
    text = f'''"""The tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the revision."""
    {_body(upgrade)}{HEAD_ROW}

def downgrade() -> None:
    """Undo the revision."""
    {_body(downgrade)}
'''
    TARGET.write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", str(TARGET)], check=True)


def _body(code: str) -> str:
    lines = [line for line in code.splitlines() if not line.strip().startswith("# ###")]
    # SQLite spells false as 0, which PostgreSQL does not take for a boolean.
    return (
        "\n".join(lines).strip().replace("server_default=sa.text('0')", "server_default=sa.false()")
    )


if __name__ == "__main__":
    main()
