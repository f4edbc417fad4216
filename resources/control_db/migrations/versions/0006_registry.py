"""The registry whole: every kind of stream, commit order, who and why, versions, and what follows the log."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
_MOMENT = sa.DateTime(timezone=True)
_SLUG = sa.String(length=63)
_TYPE = sa.String(length=127)
_KIND = sa.String(length=20)
_STREAM_HASH = "hashtextextended((key || COALESCE(to_key, ''::text)), (0)::bigint)"


def upgrade() -> None:
    postgres = op.get_context().dialect.name == "postgresql"
    _log(postgres)
    _entities()
    _relationships()
    _definitions()
    _beside()
    _tokens()
    with op.batch_alter_table("target_fence") as fence:
        fence.add_column(sa.Column("tenant_id", _SLUG))
    op.execute(
        "UPDATE target_fence SET tenant_id = (SELECT max(e.tenant_id) FROM registry_entity AS e "
        "WHERE e.source_id = target_fence.source_id)"
    )


def _log(postgres: bool) -> None:
    with op.batch_alter_table("registry_event") as log:
        # What is there was committed before anything that is to come.
        log.add_column(
            sa.Column("transaction_id", sa.BigInteger(), nullable=False, server_default="0")
        )
        for name, kind in (("actor", sa.Text()), ("data", sa.Text())):
            log.add_column(sa.Column(name, kind))
        log.add_column(sa.Column("status", sa.String(length=24)))
        log.add_column(sa.Column("review", sa.String(length=16)))
        log.add_column(sa.Column("schema_version", sa.Integer()))
        log.add_column(sa.Column("event_version", sa.Integer(), nullable=False, server_default="1"))
        for name, length in (("batch_id", 127), ("plan_digest", 32)):
            log.alter_column(name, existing_type=sa.String(length=length), nullable=True)
        log.alter_column("fencing_token", existing_type=sa.BigInteger(), nullable=True)
        for name in ("kind", "action"):
            log.alter_column(name, existing_type=sa.String(length=16), type_=_KIND)
    with op.batch_alter_table("registry_event") as log:
        log.alter_column("transaction_id", existing_type=sa.BigInteger(), server_default=None)
    op.execute("UPDATE registry_event SET kind = 'entity' WHERE kind = 'entities'")
    op.execute("UPDATE registry_event SET kind = 'relationship' WHERE kind = 'relationships'")
    op.create_index(
        "ix_registry_event_commit_order", "registry_event", ["transaction_id", "position"]
    )
    op.create_index(
        "ix_registry_event_stream",
        "registry_event",
        [sa.text(f"({_STREAM_HASH})")] if postgres else ["key", "to_key"],
    )


def _row() -> list[sa.Column[Any]]:
    return [
        sa.Column("attributes", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("operation_id", sa.LargeBinary(), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("updated_by", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.String(length=24), nullable=False, server_default="active"),
        sa.Column("review", sa.String(length=16)),
        sa.Column("reviewed_by", sa.Text()),
        sa.Column("reviewed_at", _MOMENT),
        sa.Column("schema_version", sa.Integer()),
    ]


def _address(*, kind: bool = False, to_key: bool = False) -> list[sa.Column[Any]]:
    columns = [sa.Column("tenant_id", _SLUG, nullable=False)]
    columns += [sa.Column("kind", _KIND, nullable=False)] if kind else []
    columns.append(sa.Column("type_name", _TYPE, nullable=False))
    columns.append(sa.Column("source_id", _SLUG, nullable=False))
    columns.append(sa.Column("key", _KEY, nullable=False))
    columns += [sa.Column("to_key", _KEY, nullable=False)] if to_key else []
    return columns


def _create(name: str, address: list[sa.Column[Any]], *more: sa.Column[Any]) -> None:
    key = sa.PrimaryKeyConstraint(*[column.name for column in address], name=op.f(f"pk_{name}"))
    op.create_table(name, *address, *more, key)


def _entities() -> None:
    _rebuild("registry_entity", "registry_entity_old", to_key=False)


def _relationships() -> None:
    op.drop_index("ix_registry_relationship_source_id_to_key", "registry_relationship")
    _rebuild("registry_relationship", "registry_relationship_old", to_key=True)
    op.create_index(
        "ix_registry_relationship_to_key", "registry_relationship", ["tenant_id", "to_key"]
    )


def _rebuild(name: str, old: str, *, to_key: bool) -> None:
    """Make a table anew under another key, and fill it; versions are counted in the log."""
    op.rename_table(name, old)
    if op.get_context().dialect.name == "postgresql":
        op.execute(f"ALTER INDEX pk_{name} RENAME TO pk_{old}")
    _create(name, _address(to_key=to_key), *_row())
    ends = ", to_key" if to_key else ""
    stream = f"tenant_id, type_name, source_id, key{ends}"
    kind = name.removeprefix("registry_")
    op.execute(
        f"INSERT INTO {name} ({stream}, attributes, digest, operation_id, updated_at, updated_by, version) "
        f"SELECT {', '.join('p.' + column for column in stream.split(', '))}, p.attributes, p.digest, "
        "p.operation_id, p.updated_at, COALESCE('batch:' || e.batch_id, ''), COALESCE(c.version, 1) "
        f"FROM {old} AS p LEFT JOIN registry_event AS e ON e.operation_id = p.operation_id "
        f"LEFT JOIN (SELECT {stream}, count(*) AS version FROM registry_event WHERE kind = '{kind}' "
        f"GROUP BY {stream}) AS c ON "
        + " AND ".join(f"c.{column} = p.{column}" for column in stream.split(", "))
    )
    op.drop_table(old)


def _definitions() -> None:
    _create("registry_definition", _address(kind=True), *_row())


def _beside() -> None:
    address = _address(kind=True, to_key=True)
    _create("registry_gone", address, sa.Column("version", sa.BigInteger(), nullable=False))
    op.execute(
        "INSERT INTO registry_gone "
        "SELECT tenant_id, kind, type_name, source_id, key, COALESCE(to_key, ''), count(*) "
        "FROM registry_event AS e "
        "WHERE NOT EXISTS (SELECT 1 FROM registry_entity AS p WHERE e.kind = 'entity' AND "
        "p.tenant_id = e.tenant_id AND p.type_name = e.type_name AND p.source_id = e.source_id AND p.key = e.key) "
        "AND NOT EXISTS (SELECT 1 FROM registry_relationship AS p WHERE e.kind = 'relationship' AND "
        "p.tenant_id = e.tenant_id AND p.type_name = e.type_name AND p.source_id = e.source_id AND p.key = e.key "
        "AND p.to_key = e.to_key) "
        "GROUP BY tenant_id, kind, type_name, source_id, key, COALESCE(to_key, '')"
    )
    _create(
        "registry_reference",
        [
            *_address(kind=True, to_key=True),
            sa.Column("target_type", _TYPE, nullable=False),
            sa.Column("target_source", _SLUG, nullable=False),
            sa.Column("target_key", _KEY, nullable=False),
        ],
    )
    op.create_index(
        "ix_registry_reference_target", "registry_reference", ["tenant_id", "target_key"]
    )
    _create(
        "registry_projection",
        [
            sa.Column("name", _SLUG, nullable=False),
            sa.Column("generation", sa.Integer(), nullable=False),
        ],
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("transaction_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", _MOMENT, nullable=False),
        sa.Column("worker", sa.String(length=64)),
        sa.Column("leased_until", _MOMENT),
    )
    _create(
        "registry_seal",
        [
            sa.Column(
                "block",
                sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
                nullable=False,
                autoincrement=False,
            )
        ],
        sa.Column("previous", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("last_transaction", sa.BigInteger(), nullable=False),
        sa.Column("last_position", sa.BigInteger(), nullable=False),
        sa.Column("leaves", sa.LargeBinary(), nullable=False),
        sa.Column("sealed_at", _MOMENT, nullable=False),
    )


def _tokens() -> None:
    op.create_table(
        "registry_token",
        sa.Column("token_id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", _SLUG, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("secret_digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("expires_at", _MOMENT),
        sa.Column("revoked_at", _MOMENT),
        sa.Column("revoked_by", sa.String(length=255)),
        sa.Column("last_used_at", _MOMENT),
        sa.CheckConstraint(
            "role IN ('admin', 'reader', 'schema_admin', 'writer')",
            name=op.f("ck_registry_token_role"),
        ),
        sa.PrimaryKeyConstraint("token_id", name=op.f("pk_registry_token")),
    )
    op.create_index("ix_registry_token_tenant_id", "registry_token", ["tenant_id"])
