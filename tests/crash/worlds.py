"""Worlds: all the state of one installation, kept at checkpoints and put back in a few milliseconds.

A world is a home folder (objects, row cache, SQLite files), on PostgreSQL a database besides, and a world of the HTTP
endpoint. It always lives in the same folder, so that recorded addresses are the same in every run.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import Connection, text

from penstock.identity.ids import TargetId
from penstock.publish.retry import RetryPolicy
from penstock.use_cases.platform import Platform
from resources.settings import Settings
from resources.targets.http_settings import HttpEndpoint
from resources.wiring import open_platform
from tests.crash.scenario import GUARDS
from tests.fixtures.http_endpoint import Endpoint

TARGETS = ("registry", "tables", "wiki")
KIND_OF_TARGET = {"registry": "registry", "tables": "sql_table", "wiki": "http"}
HTTP_TIMEOUT_S = 0.1
_TRIES = 100
"""Clocks jump from one try to the next, so that on a busy machine a few real timeouts must not use up all of them."""
_LOST = {
    "registry": ("registry_entity", "registry_relationship", ""),
    "tables": ("penstock_entities", "penstock_relationships", ""),
    "wiki": ("held", "held", ", digest = '" + 32 * "e" + "'"),
}
_LOSSES = {
    target: (
        f"DELETE FROM {entities} WHERE key = 'crm/d0/t1/c0'",
        f"DELETE FROM {relationships} WHERE key = 'crm/d0/t1' AND to_key = 'crm/d1/t1'",
        f"UPDATE {entities} SET attributes = '{{\"n\":99}}'{edited} WHERE key = 'crm/d1/t0' AND type_name = 'table'",
    )
    for target, (entities, relationships, edited) in _LOST.items()
}
_COUNTED = ("penstock_entities", "penstock_relationships")


@dataclass
class Worlds:
    """The worlds of one database and one target, one of which is live."""

    database: str
    target: TargetId
    folder: Path
    endpoint: Endpoint
    postgres: str | None
    """Socket folder of the PostgreSQL server; None on SQLite."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """Settings besides."""
    lives: int = 0
    _databases: set[str] = field(default_factory=set)

    @property
    def home(self) -> Path:
        """The home folder of the live world."""
        return self.folder / "live"

    @property
    def endpoint_world(self) -> str:
        """What the endpoint knows the live world by."""
        return f"{self.database}-{self.target}-{self.lives}"

    @property
    def _prefix(self) -> str:
        return f"crash_{self.target}"

    def settings(self) -> Settings:
        """Return the settings of the live world."""
        url = f"sqlite:///{self.home / 'control.db'}"
        tables = f"sqlite:///{self.home / 'tables.db'}"
        if self.postgres is not None:
            name = f"{self._prefix}_{self.lives}"
            url = tables = f"postgresql+psycopg://postgres@/{name}?host={self.postgres}"
        wiki = HttpEndpoint(
            url=self.endpoint.url(self.endpoint_world), timeout_s=HTTP_TIMEOUT_S, max_operations=4
        )
        return Settings(
            home=self.home,
            database_url=SecretStr(url),
            sql_targets={"tables": SecretStr(tables)},
            http_targets={"wiki": wiki},
            guard_policy=GUARDS,
            retry_policy=RetryPolicy(immediate_tries=3, delayed_tries=_TRIES),
            chunk_operations=5,
            verify_sample=2,
            **self.more,
        )

    def open(self) -> Platform:
        """Open the live world, in the process that will work in it."""
        return open_platform(self.settings())

    def lose_rows(self) -> None:
        """Change what the target holds behind everybody's back: an entity and a relationship go, one is edited."""
        if self.target == "wiki":
            with closing(
                sqlite3.connect(self.endpoint.folder / self.endpoint_world / "endpoint.db")
            ) as wiki:
                for statement in _LOSSES["wiki"]:
                    wiki.execute(statement)
                wiki.commit()
            return
        target = self.open().targets[self.target]
        with target.engine.begin() as connection:  # type: ignore[attr-defined]
            for statement in _LOSSES[self.target]:
                assert connection.exec_driver_sql(statement).rowcount == 1

    # Keeping and putting back -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Make an empty world."""
        shutil.rmtree(self.home, ignore_errors=True)
        self.lives += 1
        if self.postgres is not None:
            self._copy_database("template1", f"{self._prefix}_{self.lives}")

    def keep(self, name: str) -> None:
        """Keep the live world as a checkpoint; no process may be at work in it."""
        kept = self.folder / name
        shutil.copytree(self.home, kept / "home")
        there = self.endpoint.folder / self.endpoint_world
        if there.exists():
            shutil.copytree(there, kept / "endpoint")
        if self.postgres is not None:
            self._copy_database(
                f"{self._prefix}_{self.lives}", f"{self._prefix}_{name}".replace(" ", "_")
            )

    def restore(self, name: str) -> None:
        """Make a checkpoint the live world."""
        kept = self.folder / name
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.endpoint.folder / self.endpoint_world, ignore_errors=True)
        before = f"{self._prefix}_{self.lives}"
        self.lives += 1
        shutil.copytree(kept / "home", self.home)
        if (kept / "endpoint").exists():
            shutil.copytree(kept / "endpoint", self.endpoint.folder / self.endpoint_world)
        if self.postgres is not None:
            self._drop_database(before)
            self._copy_database(
                f"{self._prefix}_{name}".replace(" ", "_"), f"{self._prefix}_{self.lives}"
            )

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.postgres is not None:
            for name in sorted(self._databases):
                self._drop_database(name)

    def _copy_database(self, template: str, name: str) -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY file_copy")
        with self._admin() as admin:
            admin.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        self._databases.add(name)

    def _drop_database(self, name: str) -> None:
        with self._admin() as admin:
            admin.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )
        self._databases.discard(name)

    @contextmanager
    def _admin(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(
            host=self.postgres, user="postgres", dbname="postgres", autocommit=True
        ) as admin:
            yield admin


def count_effects(connection: Connection) -> None:
    """Let a database count every change of the tables of the ``sql_table`` target, by triggers."""
    postgres = connection.dialect.name == "postgresql"
    number = "BIGSERIAL" if postgres else "INTEGER"
    connection.execute(
        text(f"CREATE TABLE effect (n {number} PRIMARY KEY, action TEXT, key TEXT, digest TEXT)")
    )
    for table in _COUNTED:
        for action, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            _count(connection, table, action, row, postgres=postgres)


def _count(connection: Connection, table: str, action: str, row: str, *, postgres: bool) -> None:
    ends = f"{row}.key || ' ' || {row}.to_key" if "relation" in table else f"{row}.key"
    encoded = (
        f"encode({row}._penstock_digest, 'hex')" if postgres else f"hex({row}._penstock_digest)"
    )
    insert = f"INSERT INTO effect (action, key, digest) VALUES ('{action}', {ends}, {encoded});"
    name = f"count_{table}_{action}"
    if not postgres:
        connection.execute(
            text(f"CREATE TRIGGER {name} AFTER {action} ON {table} BEGIN {insert} END")
        )
        return
    connection.exec_driver_sql(
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {insert} RETURN NULL; END $$"
    )
    connection.execute(
        text(
            f"CREATE TRIGGER {name} AFTER {action} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()"
        )
    )
