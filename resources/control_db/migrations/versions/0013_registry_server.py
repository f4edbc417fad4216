"""The server that the registry's log lives in: transaction numbers belong to it, and the log may be moved."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_SHIFT = """
CREATE FUNCTION registry_shift() RETURNS bigint LANGUAGE plpgsql STABLE AS $body$
DECLARE found bigint;
BEGIN
    SELECT s.shift INTO found FROM registry_server AS s
    WHERE s.system_identifier = (SELECT c.system_identifier FROM pg_control_system() AS c);
    IF found IS NULL THEN
        RAISE EXCEPTION 'the registry''s log comes from another server, whose transaction numbers are not this one''s'
            USING ERRCODE = '55000',
            HINT = 'Run `penstock registry verify`, or start Penstock again: it settles the order of the log.';
    END IF;
    RETURN found;
END
$body$
"""


def upgrade() -> None:
    op.create_table(
        "registry_server",
        sa.Column("system_identifier", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("shift", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("system_identifier", name=op.f("pk_registry_server")),
    )
    if op.get_context().dialect.name == "postgresql":
        op.execute(_SHIFT)
