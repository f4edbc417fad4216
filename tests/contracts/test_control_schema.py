"""The control database's schema comes from its migrations, and equals what the code declares."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, select, text
from sqlalchemy.exc import IntegrityError

import resources
from resources.control_db.engine import BadDatabaseUrl, DatabaseUnreachable, open_engine
from resources.control_db.schema import (
    MIGRATIONS,
    SchemaTooNew,
    current_revision,
    newest_revision,
    upgrade,
)
from resources.control_db.store import SqlControlStore
from resources.control_db.tables import batch, lane, metadata
from tests.contracts.control_values import admit


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "postgres":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'control.db'}"


def _import_all_tables() -> None:
    for module in (*_modules("control_db"), *_modules("targets"), *_modules("registry")):
        if ".migrations" not in module:
            importlib.import_module(module)


def _modules(package: str) -> Iterator[str]:
    folders = [str(Path(root) / package) for root in resources.__path__]
    for found in pkgutil.walk_packages(folders, f"resources.{package}."):
        yield found.name


def test_the_migrations_make_what_is_declared(control_url: str) -> None:
    """Alembic finds no difference between a migrated database and all tables on the metadata."""
    _import_all_tables()
    engine = open_engine(control_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                # What differs between the databases Alembic cannot declare; the next test compares it.
                "include_name": lambda name, *_: name != "ix_registry_event_stream",
            },
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def _text_of(index: dict[str, Any]) -> str:
    options = {name: str(value) for name, value in index.get("dialect_options", {}).items()}
    return str({**index, "dialect_options": options})


def _checks_and_indexes(engine: Engine) -> dict[str, object]:
    found = inspect(engine)
    return {
        table: (
            sorted(str(check) for check in found.get_check_constraints(table)),
            sorted(_text_of(dict(index)) for index in found.get_indexes(table)),
        )
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def test_the_migrations_make_the_declared_checks_and_partial_indexes(
    empty_url: str, new_control_url: Callable[[str], str]
) -> None:
    """Alembic does not compare these, so they are compared with what the metadata makes."""
    _import_all_tables()
    database = "sqlite" if empty_url.startswith("sqlite") else "postgres"
    migrated, made = open_engine(new_control_url(database)), open_engine(empty_url)
    metadata.create_all(made)
    assert _checks_and_indexes(migrated) == _checks_and_indexes(made)
    migrated.dispose()
    made.dispose()


def test_the_newest_revision_is_the_only_head() -> None:
    """File names tell the newest revision, so they and Alembic must agree on it."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    assert script.get_heads() == [newest_revision()]
    for revision in script.walk_revisions():
        assert Path(revision.path).name.startswith(f"{revision.revision}_")


def test_upgrading_again_changes_nothing(empty_url: str) -> None:
    """What is there stays, at whatever start."""
    upgrade(empty_url)
    store = SqlControlStore(empty_url)
    admitted = admit(store, "a", 1)
    upgrade(empty_url)
    upgrade(store.engine)
    assert store.known_batches([admitted]) == {admitted}
    store.close()


def test_processes_that_start_at_once_migrate_once(empty_url: str) -> None:
    """Four processes upgrade an empty database together, and all of them find it whole."""
    spawn = multiprocessing.get_context("spawn")
    started = [spawn.Process(target=upgrade, args=(empty_url,)) for _ in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0, 0, 0]
    engine = open_engine(empty_url)
    with engine.connect() as connection:
        assert current_revision(connection) == newest_revision()
        assert connection.execute(select(lane)).all() == []
    engine.dispose()


def test_threads_that_start_at_once_migrate_once(empty_url: str) -> None:
    """The same within one process."""
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [empty_url] * 4))
    engine = open_engine(empty_url)
    with engine.connect() as connection:
        assert current_revision(connection) == newest_revision()
    engine.dispose()


def test_a_failed_migration_leaves_nothing_behind(empty_url: str) -> None:
    """All migrations are applied or none: a table in the way is found by the next start too."""
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE snapshot (x INTEGER)"))
    with pytest.raises(Exception, match="snapshot"):
        upgrade(engine)
    with engine.begin() as connection:
        assert inspect(connection).get_table_names() == ["snapshot"]
        connection.execute(text("DROP TABLE snapshot"))
    upgrade(engine)
    engine.dispose()


def test_a_database_from_the_future_is_left_alone(empty_url: str) -> None:
    """An older Penstock refuses a database that a newer one has migrated."""
    upgrade(empty_url)
    engine = open_engine(empty_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew, match=r"at schema 9999 .* upgrade Penstock"):
        upgrade(engine)
    engine.dispose()


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [("publish_state", "status", "LOST"), ("publish_state", "mode", "some"), ("batch", "mode", "")],
)
def test_the_database_refuses_unknown_words(
    control_store: SqlControlStore, table: str, column: str, value: str
) -> None:
    """Check constraints hold even against SQL that goes past the store."""
    admit(control_store, "a", 1)
    statement = text(f"UPDATE {table} SET {column} = :value")
    with pytest.raises(IntegrityError), control_store.engine.begin() as connection:
        connection.execute(statement, {"value": value})


def test_the_database_refuses_a_batch_that_is_still_on_its_way_to_vanish(
    control_store: SqlControlStore,
) -> None:
    """Foreign keys hold on both databases."""
    admit(control_store, "a", 1)
    with pytest.raises(IntegrityError), control_store.engine.begin() as connection:
        connection.execute(batch.delete())


def test_sqlite_runs_with_the_settings_that_it_is_trusted_for(
    new_control_url: Callable[[str], str],
) -> None:
    """WAL lets readers and a writer work at once; FULL keeps what was committed through a power cut."""
    store = SqlControlStore(new_control_url("sqlite"))
    with store.engine.connect() as connection:
        asked = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        settings = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in asked]
    assert settings == ["wal", 2, 1, 30_000]
    store.close()


def test_a_sqlite_reader_does_not_wait_for_a_writer(
    new_control_url: Callable[[str], str],
) -> None:
    """A page that lists states answers while a worker is in the middle of a write."""
    url = new_control_url("sqlite")
    store = SqlControlStore(url)
    writer = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("DELETE FROM publish_state")
    assert store.list_states() == []
    writer.execute("ROLLBACK")
    writer.close()
    store.close()


def test_a_database_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    """The folder or the server is named, and the password is not."""
    with pytest.raises(BadDatabaseUrl, match=r"the folder of .*/nope/control.db is not there"):
        upgrade(f"sqlite:///{tmp_path}/nope/control.db")
    with pytest.raises(DatabaseUnreachable) as raised:
        upgrade(f"postgresql://me:s3cret@/db?host={tmp_path}")
    assert "me:***@/db" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_a_url_that_cannot_be_read_is_refused_without_its_password() -> None:
    """A port that is no number, or no URL at all, is an error that shows how to write one."""
    for url in ("postgresql://me:s3cret@host:port/db", "me:s3cret"):
        with pytest.raises(BadDatabaseUrl, match=r"sqlite:////folder/control\.db") as raised:
            open_engine(url)
        assert "s3cret" not in str(raised.value)
