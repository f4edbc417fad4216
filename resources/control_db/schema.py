"""Bringing a control database's schema up to date, from migrations that travel in the package.

A migration is a file ``NNNN_what.py`` in ``migrations/versions`` whose revision is ``NNNN``, so that the newest
revision is known without importing Alembic: most starts find nothing to do, and pay one query for it.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from penstock.errors import PenstockError
from resources.control_db.engine import DatabaseUnreachable, open_engine
from resources.control_db.log_order import is_settled, settle

MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x70656E73746F636B  # "penstock"


class SchemaTooNew(PenstockError):
    """A newer Penstock has migrated this database; this one must not write to it."""

    code = "schema_too_new"


def newest_revision() -> str:
    """Return the revision that this package brings a database to."""
    return max(file.name[:4] for file in (MIGRATIONS / "versions").glob("[0-9]*_*.py"))


def current_revision(connection: Connection) -> str | None:
    """Return the revision that a database is at, or None if it is empty."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return None if revision is None else str(revision)


def upgrade(database: str | URL | Engine) -> None:
    """Bring a database's schema up to date: all missing migrations in one transaction, or none.

    Safe when many processes start at once: one migrates, the others wait and find it done. The logs of a
    database that was restored into another server than they were written in are put in order there.
    Raises :class:`SchemaTooNew` for a database that a newer Penstock has migrated, and
    :class:`~resources.control_db.engine.DatabaseUnreachable` for one that does not answer.
    """
    if isinstance(database, Engine):
        _upgrade(database)
        return
    engine = open_engine(database)
    try:
        _upgrade(engine)
    finally:
        engine.dispose()


def _upgrade(engine: Engine) -> None:
    with _connect(engine) as connection:
        if _is_current(connection) and is_settled(connection):
            return
    with engine.begin() as connection:
        # On SQLite the transaction has begun with the write lock, which is lock enough.
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        if not _is_current(connection):
            _run_migrations(connection)
        if connection.dialect.name == "postgresql":
            settle(connection)


def _connect(engine: Engine) -> Connection:
    try:
        return engine.connect().execution_options(penstock_reading=True)
    except OperationalError as error:
        raise DatabaseUnreachable(
            f"the control database {engine.url.render_as_string(hide_password=True)} cannot be "
            f"reached: {error.orig}"
        ) from error


def _is_current(connection: Connection) -> bool:
    current, newest = current_revision(connection), newest_revision()
    if current is not None and current > newest:
        raise SchemaTooNew(
            f"the control database is at schema {current} but this Penstock knows only {newest}: "
            "upgrade Penstock, or restore the database from before its upgrade"
        )
    return current == newest


def _run_migrations(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
