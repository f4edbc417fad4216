"""The server that a database lives in counts for the outbox, too: its order may be moved like the registry's log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_SHIFT = """
CREATE FUNCTION log_shift() RETURNS bigint LANGUAGE plpgsql STABLE AS $body$
DECLARE found bigint;
BEGIN
    SELECT s.shift INTO found FROM log_server AS s
    WHERE s.system_identifier = (SELECT c.system_identifier FROM pg_control_system() AS c);
    IF found IS NULL THEN
        RAISE EXCEPTION 'this database comes from another server, whose transaction numbers are not this one''s'
            USING ERRCODE = '55000',
            HINT = 'Run `penstock registry verify`, or start Penstock again: it settles the order of the logs.';
    END IF;
    RETURN found;
END
$body$
"""


def upgrade() -> None:
    op.create_table(
        "log_server",
        sa.Column("system_identifier", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("shift", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("system_identifier", name=op.f("pk_log_server")),
    )
    op.execute("INSERT INTO log_server SELECT system_identifier, shift FROM registry_server")
    op.drop_table("registry_server")
    if op.get_context().dialect.name == "postgresql":
        op.execute(_SHIFT)
        op.execute("DROP FUNCTION registry_shift()")
