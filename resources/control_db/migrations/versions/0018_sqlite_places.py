"""On SQLite, no number of the outbox or the inbox is given twice, and who waits at one that was is put right.

Without AUTOINCREMENT SQLite gives the highest number plus one. Once retention had removed the last event, the next
ones got numbers that whoever follows the outbox had read long ago, and were skipped.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_PLACES = (
    ("destination", "cursor_position"),
    ("loop_place", "position"),
    ("metric_cursor", "position"),
    ("workflow", "heard_position"),
)
"""Where it is kept up to where the outbox has been read."""


def upgrade() -> None:
    if op.get_context().dialect.name != "sqlite":
        return  # PostgreSQL's sequences never go back.
    last = max(_highest("outbox_event", "position"), *(_highest(*place) for place in _PLACES))
    _go_back_to_what_is_there()
    _number_on("outbox_event", last)
    named = _highest("audit_entry WHERE act = 'event.requeue'", "CAST(subject AS INTEGER)")
    _number_on("inbox_event", max(_highest("inbox_event", "position"), named))


def _highest(rows: str, number: str) -> int:
    return int(op.get_bind().scalar(sa.text(f"SELECT max({number}) FROM {rows}")) or 0)


def _go_back_to_what_is_there() -> None:
    """Have those who are ahead of the outbox read it from its beginning.

    The last event that they read is gone, and retention removes the oldest first: what is there now has come since, and
    has not reached them.
    """
    top = _highest("outbox_event", "position")
    for table, column in _PLACES:
        op.execute(f"UPDATE {table} SET {column} = 0 WHERE {column} > {top}")


def _number_on(table: str, last: int) -> None:
    numbered = {"sqlite_autoincrement": True}
    with op.batch_alter_table(table, recreate="always", table_kwargs=numbered):
        pass  # Made anew as it was, with AUTOINCREMENT, which no ALTER TABLE can add.
    op.execute(f"DELETE FROM sqlite_sequence WHERE name = '{table}'")
    op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {last})")
