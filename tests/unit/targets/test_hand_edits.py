"""Edits by hand in tables: what typed columns hold is told from what was published, and a write does not lose them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Engine, LargeBinary, Text, bindparam, text

from penstock.batch.rows import Kind
from penstock.identity.canonical import canonical_text, value_of
from penstock.ports.target import PUBLISHED, Applied
from resources.targets.column_values import ColumnType
from resources.targets.sql_table import SqlTableTarget, open_sql_table
from resources.targets.table_mapping import MappedColumn, TableMapping
from tests.unit.targets.chunks import CONTEXT, Change, chunk, created

VALUES: dict[str, tuple[ColumnType, Any, Any]] = {
    "name": (ColumnType.TEXT, "Zoë", "Zoe"),
    "age": (ColumnType.INTEGER, -(2**63), 7),
    "height": (ColumnType.FLOAT, 0.1, 0.25),
    "balance": (ColumnType.DECIMAL, Decimal("1234567890123456.789"), Decimal("2.5")),
    "active": (ColumnType.BOOLEAN, True, False),
    "born": (ColumnType.DATE, date(1970, 1, 1), date(1971, 2, 3)),
    "seen": (
        ColumnType.TIMESTAMP,
        datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=UTC),
    ),
    "local": (ColumnType.DATETIME, datetime(2026, 1, 1, 12), datetime(2026, 1, 3)),  # noqa: DTZ001
    "photo": (ColumnType.BYTES, b"\x00\xff", b"\x01"),
    "tags": (ColumnType.JSON, {"list": [1, None, Decimal("1.5")]}, ["x"]),
}
TYPED = TableMapping(
    kind=Kind.ENTITY,
    type_name="person",
    table="persons",
    columns=tuple((n, MappedColumn(name=n, type=kind)) for n, (kind, _, _) in VALUES.items()),
)
WITH_TEXT = replace(TYPED, columns=TYPED.columns[:1], attributes_column="attributes")
SHARED = replace(CONTEXT, shared_types=frozenset({"person"}))
FULL = {name: value for name, (_, value, _) in VALUES.items()}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def opened(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., SqlTableTarget]]:
    """A function from mappings to a prepared target, on SQLite and PostgreSQL."""
    url = f"sqlite:///{tmp_path}/warehouse.db"
    if request.param == "postgres":
        url = str(request.getfixturevalue("postgres_url"))
    engines: list[Engine] = []

    def open_with(*mappings: TableMapping) -> SqlTableTarget:
        target = open_sql_table(url, "warehouse", mappings)
        engines.append(target.engine)
        target.prepare()
        return target

    yield open_with
    for engine in engines:
        engine.dispose()


def held(target: SqlTableTarget, key: str, published: dict[str, Any] | None) -> Any:
    """What the target holds of a person whom the asker takes to be as published."""
    said = None if published is None else canonical_text(published).decode()
    keys = pa.table(
        {"type_name": ["person"], "key": [key], PUBLISHED: pa.array([said], pa.string())}
    )
    found = target.read_back(CONTEXT.source_id, Kind.ENTITY, keys)["attributes"][0].as_py()
    return None if found is None else value_of(found)


def write(target: SqlTableTarget, key: str, **values: Any) -> None:
    """Write into columns as a person with a shell does, whatever type they have."""
    table = target.tables["persons"]
    names = ", ".join(f"{name} = :{name}" for name in values)
    types = [bindparam(name, type_=table.c[name].type) for name in values]
    statement = text(f"UPDATE persons SET {names} WHERE key = :key").bindparams(*types)
    with target.engine.begin() as connection:
        assert connection.execute(statement, {"key": key, **values}).rowcount == 1


def update(key: str, before: dict[str, Any], after: dict[str, Any] | None) -> pa.Table:
    """An operation with its before-image, as plans have it."""
    operations = chunk([Change(key, before, after)])
    at = operations.schema.get_field_index("before_attributes")
    image = pa.array([canonical_text(before).decode()] * len(operations), pa.string())
    return operations.set_column(at, operations.schema.field(at), image)


def test_what_nobody_edited_is_as_published(opened: Callable[..., SqlTableTarget]) -> None:
    """Values of every type come back as the very attributes they were; so do missing ones and unmapped ones."""
    target = opened(TYPED)
    target.apply(chunk([created("a", **FULL, unmapped=1), created("b", unmapped=2)]), CONTEXT)
    assert held(target, "a", {**FULL, "unmapped": 1}) == {**FULL, "unmapped": 1}
    assert held(target, "b", {"unmapped": 2}) == {"unmapped": 2}
    assert held(target, "b", None) is None
    assert held(target, "gone", {"unmapped": 2}) is None


@pytest.mark.parametrize("name", list(VALUES))
def test_an_edited_column_shows(opened: Callable[..., SqlTableTarget], name: str) -> None:
    """Changed, cleared, or filled where nothing was: the attribute has the edit, with its type."""
    target = opened(TYPED)
    target.apply(chunk([created("a", **FULL), created("b", **FULL), created("c")]), CONTEXT)
    kind, _, edit = VALUES[name]
    stored = canonical_text({"it": edit})[6:-1].decode() if kind is ColumnType.JSON else edit
    if kind is ColumnType.DECIMAL and target.engine.dialect.name == "sqlite":
        stored = str(edit)
    write(target, "a", **{name: stored})
    write(target, "b", **{name: None})
    write(target, "c", **{name: stored})
    assert held(target, "a", FULL) == {**FULL, name: edit}
    assert held(target, "b", FULL) == {**FULL, name: None}
    assert held(target, "c", {}) == {name: edit}


def test_what_is_no_value_of_its_type_shows_as_text(tmp_path: Path) -> None:
    """SQLite lets anything into any column: it is found, and fails nothing."""
    target = open_sql_table(f"sqlite:///{tmp_path}/loose.db", "warehouse", [TYPED])
    target.prepare()
    target.apply(chunk([created("a", **FULL)]), CONTEXT)
    edits = {"age": "old", "born": "yesterday", "seen": "now", "balance": "much", "tags": "{"}
    names = ", ".join(f"{name} = '{value}'" for name, value in edits.items())
    with target.engine.begin() as connection:
        connection.execute(text(f"UPDATE persons SET {names}"))
    assert held(target, "a", FULL) == {**FULL, **edits}
    target.engine.dispose()


def test_text_and_columns_may_both_be_edited(opened: Callable[..., SqlTableTarget]) -> None:
    """An edit in the text shows, one in a column shows, and where both were edited the column counts."""
    target = opened(WITH_TEXT)
    published = {"name": "A", "note": ""}
    target.apply(chunk([created(key, **published) for key in "abcd"]), CONTEXT)
    write(target, "a", attributes='{"name":"by text","note":""}')
    write(target, "d", attributes='{"name":"by text","note":"n"}')
    write(target, "b", name="by column")
    write(target, "c", name="by column", attributes='{"name":"by text","note":"n"}')
    assert held(target, "a", published) == {"name": "by text", "note": ""}
    assert held(target, "d", published) == {"name": "A", "note": "n"}
    assert held(target, "b", published) == {"name": "by column", "note": ""}
    assert held(target, "c", published) == {"name": "by column", "note": "n"}
    write(target, "a", attributes="no json")
    keys = pa.table({"type_name": ["person"], "key": ["a"], PUBLISHED: ["{}"]})
    answer = target.read_back(CONTEXT.source_id, Kind.ENTITY, keys)["attributes"].to_pylist()
    assert answer == ["no json"]


@pytest.mark.parametrize("mapping", [TYPED, WITH_TEXT, None])
def test_an_edit_since_the_read_is_a_conflict(
    opened: Callable[..., SqlTableTarget], mapping: TableMapping | None
) -> None:
    """On types that people edit as well nothing is written over what has no other digest; on others it is."""
    target = opened(*([mapping] if mapping else []))
    table = "persons" if mapping else "penstock_entities"
    before = {"name": "A"}
    target.apply(chunk([created(key, **before) for key in "abc"]), CONTEXT)
    column = "name" if mapping is TYPED else "attributes"
    value = "edited" if mapping is TYPED else '{"name":"edited"}'
    with target.engine.begin() as connection:
        connection.execute(text(f"UPDATE {table} SET {column} = :v"), {"v": value})
    for operations in (update("a", before, {"name": "B"}), update("b", before, None)):
        outcome = target.apply(operations, SHARED)
        assert isinstance(outcome, Applied)
        (failure,) = outcome.failures
        assert failure.code == "edited_meanwhile"
    assert held(target, "a", before) == {"name": "edited"}
    seen = update("a", before, {"name": "B"})
    at = seen.schema.get_field_index("before_attributes")
    seen = seen.set_column(at, seen.schema.field(at), pa.array(['{"name":"edited"}']))
    assert target.apply(seen, SHARED) == Applied(applied=1, already_applied=0)
    over = target.apply(update("c", before, {"name": "B"}), CONTEXT)
    assert over == Applied(applied=1, already_applied=0)
    assert held(target, "a", {"name": "B"}) == held(target, "c", {"name": "B"}) == {"name": "B"}


@pytest.mark.postgres
def test_an_edit_that_is_under_way_is_waited_for(postgres_url: str) -> None:
    """Somebody's open transaction holds the row: the write waits for it, and then sees what it left."""
    target = open_sql_table(postgres_url, "warehouse")
    target.prepare()
    target.apply(chunk([created("a", name="A")]), CONTEXT)
    with ThreadPoolExecutor(1) as pool, target.engine.connect() as person:
        person.execute(text("UPDATE penstock_entities SET attributes = :v"), {"v": '{"name":"x"}'})
        waiting = pool.submit(target.apply, update("a", {"name": "A"}, {"name": "B"}), SHARED)
        query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        with target.engine.connect() as watching:
            while not watching.execute(query).scalar_one():
                watching.rollback()
        person.commit()
        outcome = waiting.result()
    assert isinstance(outcome, Applied)
    assert [failure.code for failure in outcome.failures] == ["edited_meanwhile"]
    assert held(target, "a", {"name": "A"}) == {"name": "x"}
    target.engine.dispose()


def test_a_digest_of_any_form_is_read(opened: Callable[..., SqlTableTarget]) -> None:
    """What somebody wrote beside the row is no digest of ours: it is found, repaired, and fails nothing."""
    target = opened(WITH_TEXT)
    target.apply(chunk([created("a", name="A"), created("b", name="B")]), CONTEXT)
    for key, digest in (("a", b"short"), ("b", b"")):
        statement = text("UPDATE persons SET _penstock_digest = :d WHERE key = :key")
        statement = statement.bindparams(
            bindparam("d", type_=LargeBinary), bindparam("key", type_=Text)
        )
        with target.engine.begin() as connection:
            connection.execute(statement, {"d": digest, "key": key})
    keys = pa.table({"type_name": ["person"] * 2, "key": ["a", "b"]})
    found = target.read_back(CONTEXT.source_id, Kind.ENTITY, keys)["digest"].to_pylist()
    assert [len(digest) for digest in found] == [16, 16]
    repair = chunk([Change("a", {"name": "A"}, {"name": "A2"})])
    at = repair.schema.get_field_index("before_digest")
    repair = repair.set_column(at, repair.schema.field(at), pa.array(found[:1], pa.binary(16)))
    assert target.apply(repair, CONTEXT) == Applied(applied=1, already_applied=0)
    assert held(target, "a", None) == {"name": "A2"}
