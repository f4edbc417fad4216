"""Typed tables: attributes in columns of their own, in tables that Penstock creates or finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlalchemy import Engine, text

from penstock.batch.rows import Kind
from penstock.execute.chunks import TargetDown
from penstock.ports.target import Applied, Outcome, Rejected, Unavailable
from resources.targets.column_values import ColumnType
from resources.targets.outcomes import TargetTablesWrong
from resources.targets.sql_table import BadTargetUrl, SqlTableTarget, open_sql_table
from resources.targets.table_mapping import BadTableMapping, MappedColumn, TableMapping
from tests.unit.targets.chunks import CONTEXT, Change, chunk, created

VALUES: dict[str, tuple[ColumnType, Any]] = {
    "name": (ColumnType.TEXT, "Zoë \"'\\ 日本"),
    "age": (ColumnType.INTEGER, -(2**63)),
    "height": (ColumnType.FLOAT, 1.75),
    "balance": (ColumnType.DECIMAL, Decimal("12345678901234567890.123456789")),
    "active": (ColumnType.BOOLEAN, True),
    "born": (ColumnType.DATE, date(1970, 1, 1)),
    "seen": (ColumnType.TIMESTAMP, datetime(2026, 1, 1, 12, 30, 0, 123456, tzinfo=UTC)),
    "local": (ColumnType.DATETIME, datetime(2026, 1, 1, 12)),  # noqa: DTZ001  naive on purpose
    "photo": (ColumnType.BYTES, b"\x00\xff"),
    "tags": (ColumnType.JSON, {"list": [1, None, Decimal("1.5")]}),
}
PERSONS = TableMapping(
    kind=Kind.ENTITY,
    type_name="person",
    table="persons",
    key_column="person_key",
    columns=tuple(
        (name, MappedColumn(name=f"{name}_column", type=kind)) for name, (kind, _) in VALUES.items()
    ),
)
NAMED = TableMapping(
    kind=Kind.ENTITY,
    type_name="person",
    table="persons",
    columns=(("name", MappedColumn(name="name", type=ColumnType.TEXT)),),
    attributes_column="attributes",
)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, once on SQLite and once on PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/warehouse.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


Opened = Callable[..., SqlTableTarget]


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    """A function from mappings to a target that is prepared and closed at the end."""
    engines: list[Engine] = []

    def open_with(*mappings: TableMapping, prepare: bool = True) -> SqlTableTarget:
        target = open_sql_table(url, "warehouse", mappings)
        engines.append(target.engine)
        if prepare:
            target.prepare()
        return target

    yield open_with
    for engine in engines:
        engine.dispose()


def rows(target: SqlTableTarget, query: str) -> list[tuple[Any, ...]]:
    with target.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def run(target: SqlTableTarget, statement: str) -> None:
    with target.engine.begin() as connection:
        connection.execute(text(statement))


def test_attributes_become_values_of_columns(opened: Opened) -> None:
    """Every type of column holds the attribute as the database's own value; missing ones and others are NULL."""
    target = opened(PERSONS)
    values = {name: value for name, (_, value) in VALUES.items()}
    chunk_ = chunk([created("crm/a", **values, unmapped=1), created("crm/b")])
    assert target.apply(chunk_, CONTEXT) == Applied(applied=2, already_applied=0)
    table = target.tables["persons"]
    columns = [table.c[f"{name}_column"] for name in VALUES]
    with target.engine.connect() as connection:
        full, empty = connection.execute(
            table.select().order_by("person_key").with_only_columns(*columns)
        )
    expected = {**values, "tags": '{"list":[1,null,{"$decimal":"1.5"}]}'}
    if target.engine.dialect.name == "sqlite":
        expected["balance"] = "12345678901234567890.123456789"
    assert list(full) == list(expected.values())
    assert list(empty) == [None] * len(VALUES)


def test_rows_are_updated_and_deleted_in_place(opened: Opened) -> None:
    """An update writes all mapped columns of its row, a delete removes it, a repeat does neither again."""
    target = opened(NAMED)
    target.apply(chunk([created("a", name="A", x=1), created("b", name="B")]), CONTEXT)
    second = chunk([Change("a", {"name": "A", "x": 1}, {"x": 2}), Change("b", {"name": "B"}, None)])
    assert target.apply(second, CONTEXT) == Applied(applied=2, already_applied=0)
    assert rows(target, "SELECT key, name, attributes FROM persons") == [("a", None, '{"x":2}')]
    assert target.apply(second, CONTEXT) == Applied(applied=0, already_applied=2)


def test_a_value_that_its_column_refuses_rejects_the_chunk(opened: Opened) -> None:
    """Text for an integer column rejects the whole chunk and names entity, attribute, column and value."""
    target = opened(PERSONS)
    outcome = target.apply(chunk([created("ok", age=1), created("bad", age="forty")]), CONTEXT)
    assert isinstance(outcome, Rejected)
    assert "attribute 'age' of person 'bad'" in outcome.message
    assert (
        "column 'age_column' of 'persons' takes integers of 64 bits, not the str 'forty'"
        in outcome.message
    )
    assert rows(target, "SELECT * FROM persons") == []
    assert rows(target, "SELECT * FROM penstock_receipts") == []


def test_a_constraint_of_the_table_rejects_the_chunk(opened: Opened) -> None:
    """What the database itself refuses rejects the whole chunk with the database's words, and nothing took effect."""
    target = opened(prepare=False)
    with target.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE persons (_penstock_source VARCHAR(63), key VARCHAR(99), "
                "name VARCHAR(99) CONSTRAINT not_shouting CHECK (name <> 'LOUD'), attributes TEXT, "
                f"_penstock_digest {_bytes(target)}, _penstock_operation {_bytes(target)}, "
                "PRIMARY KEY (_penstock_source, key))"
            )
        )
    target = opened(NAMED)
    outcome = target.apply(chunk([created("a", name="calm"), created("b", name="LOUD")]), CONTEXT)
    assert isinstance(outcome, Rejected)
    assert "not_shouting" in outcome.message
    assert rows(target, "SELECT * FROM persons") == []
    assert target.apply(chunk([created("a", name="calm")]), CONTEXT) == Applied(
        applied=1, already_applied=0
    )


def _bytes(target: SqlTableTarget) -> str:
    return "BYTEA" if target.engine.dialect.name == "postgresql" else "BLOB"


def test_a_table_that_lacks_columns_is_named_and_left_alone(opened: Opened) -> None:
    """A table that is there without the target's own columns is an error that lists them; it is not altered."""
    target = opened(prepare=False)
    run(target, "CREATE TABLE persons (key VARCHAR(99) PRIMARY KEY, name VARCHAR(99))")
    with pytest.raises(TargetTablesWrong, match="_penstock_digest") as caught:
        opened(NAMED)
    assert "table 'persons' lacks columns that its mapping needs: _penstock_source" in str(
        caught.value
    )
    run(target, "INSERT INTO persons VALUES ('a', 'A')")
    assert rows(target, "SELECT * FROM persons") == [("a", "A")]


def test_a_row_of_someone_else_is_not_overwritten(opened: Opened) -> None:
    """A create whose key another source's row takes is refused by the table's key and changes nothing."""
    target = opened(prepare=False)
    run(
        target,
        "CREATE TABLE persons (_penstock_source VARCHAR(63), key VARCHAR(99) PRIMARY KEY, name VARCHAR(99), "
        f"attributes TEXT, _penstock_digest {_bytes(target)}, _penstock_operation {_bytes(target)})",
    )
    target = opened(NAMED)
    run(target, "INSERT INTO persons (key, name) VALUES ('a', 'mine')")
    outcome = target.apply(chunk([created("a", name="theirs")]), CONTEXT)
    assert isinstance(outcome, Rejected)
    assert rows(target, "SELECT key, name FROM persons") == [("a", "mine")]


def test_a_row_changed_by_hand_keeps_its_digest(opened: Opened) -> None:
    """A digest that someone else has written is a conflict; the row stays as they left it."""
    target = opened(NAMED)
    target.apply(chunk([created("a", name="A")]), CONTEXT)
    zeros = "'\\x" + "00" * 16 + "'" if _bytes(target) == "BYTEA" else "x'" + "00" * 16 + "'"
    run(target, f"UPDATE persons SET name = 'by hand', _penstock_digest = {zeros}")
    outcome = target.apply(chunk([Change("a", {"name": "A"}, {"name": "B"})]), CONTEXT)
    assert isinstance(outcome, Applied)
    assert [failure.outcome for failure in outcome.failures] == [Outcome.CONFLICT]
    assert f"found digest {'00' * 16}" in outcome.failures[0].message
    assert rows(target, "SELECT name FROM persons") == [("by hand",)]


def test_types_without_a_mapping_go_into_generic_tables(opened: Opened) -> None:
    """A mapped type fills its own table, any other the generic one; both are read back."""
    target = opened(NAMED)
    both = pa.concat_tables([chunk([created("a")]), chunk([created("a")], type_name="team")])
    assert target.apply(both, CONTEXT) == Applied(applied=2, already_applied=0)
    assert rows(target, "SELECT key FROM persons") == [("a",)]
    assert rows(target, "SELECT type_name, key FROM penstock_entities") == [("team", "a")]
    keys = pa.table({"type_name": ["team", "person", "robot"], "key": ["a", "a", "a"]})
    answer = target.read_back(CONTEXT.source_id, Kind.ENTITY, keys)
    assert answer["attributes"].to_pylist() == ["{}", "{}", None]


def test_a_table_without_the_text_is_read_back_by_digest(opened: Opened) -> None:
    """Without an attributes column the digest still tells what was written."""
    target = opened(PERSONS)
    operations = chunk([created("a", name="A")])
    target.apply(operations, CONTEXT)
    keys = pa.table({"type_name": ["person"], "key": ["a"]})
    answer = target.read_back(CONTEXT.source_id, Kind.ENTITY, keys)
    assert answer["digest"].to_pylist() == operations["after_digest"].to_pylist()
    assert answer["attributes"].to_pylist() == [None]


def test_preparing_twice_changes_nothing(opened: Opened) -> None:
    """Tables that are there stay, rows and all."""
    target = opened(NAMED)
    target.apply(chunk([created("a")]), CONTEXT)
    target.prepare()
    opened(NAMED)
    assert rows(target, "SELECT key FROM persons") == [("a",)]


def test_a_table_that_went_away_is_an_error(opened: Opened) -> None:
    """A chunk for a table that someone dropped stops with an error that names it."""
    target = opened(NAMED)
    run(target, "DROP TABLE persons")
    with pytest.raises(TargetTablesWrong, match="persons"):
        target.apply(chunk([created("a")]), CONTEXT)


def test_a_locked_database_is_unavailable(tmp_path: Path) -> None:
    """While another connection holds SQLite's write lock past the timeout, nothing takes effect."""
    url = f"sqlite:///{tmp_path}/warehouse.db"
    target = open_sql_table(f"{url}?timeout=0.05", "warehouse")
    target.prepare()
    other = open_sql_table(url, "other")
    with other.engine.begin():
        outcome = target.apply(chunk([created("a")]), CONTEXT)
    assert outcome == Unavailable(message="database is locked")
    assert target.apply(chunk([created("a")]), CONTEXT) == Applied(applied=1, already_applied=0)
    other.engine.dispose()
    target.engine.dispose()


def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """A connection that is refused is no rejection, neither of a chunk nor of the batch, and shows no password."""
    url = f"postgresql://me:hunter2@/db?host={tmp_path}"
    target = open_sql_table(url, "warehouse")
    outcome = target.apply(chunk([created("a")]), CONTEXT)
    assert isinstance(outcome, Unavailable)
    assert "hunter2" not in outcome.message + repr(target)
    with pytest.raises(TargetDown):
        target.prepare()


@pytest.mark.postgres
def test_a_lost_connection_is_unavailable_and_mended(postgres_url: str) -> None:
    """A session that the server ends costs one answer; the same chunk goes through on the next."""
    target = open_sql_table(postgres_url, "warehouse")
    target.prepare()
    operations = chunk([created("a")])
    with target.engine.connect() as admin:
        admin.execute(
            text(
                "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "PERFORM pg_terminate_backend(pg_backend_pid()); RETURN new; END $$"
            )
        )
        admin.execute(
            text("CREATE TRIGGER stop BEFORE INSERT ON penstock_entities EXECUTE FUNCTION stop()")
        )
        admin.commit()
    assert isinstance(target.apply(operations, CONTEXT), Unavailable)
    run(target, "DROP TRIGGER stop ON penstock_entities")
    assert target.apply(operations, CONTEXT) == Applied(applied=1, already_applied=0)
    target.engine.dispose()


@pytest.mark.parametrize("url", ["not a url", "nodialect://x", "postgresql://a:hunter2@h:port/x"])
def test_a_bad_url_is_refused_without_showing_it(url: str) -> None:
    """The error names the target, and holds nothing of the URL, which may hold a password."""
    with pytest.raises(BadTargetUrl, match="'warehouse'") as caught:
        open_sql_table(url, "warehouse")
    assert url not in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_type_is_mapped_once() -> None:
    """Two mappings of one type, or two types in one table, are refused when the target is opened."""
    team = TableMapping(kind=Kind.ENTITY, type_name="team", table="persons")
    with pytest.raises(BadTableMapping, match="mapped twice"):
        open_sql_table("sqlite://", "warehouse", [NAMED, NAMED])
    with pytest.raises(BadTableMapping, match="used twice"):
        open_sql_table("sqlite://", "warehouse", [NAMED, team])


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"table": 'a"; DROP TABLE b'}, "DROP TABLE"),
        ({"table": "a.b.c"}, "a.b.c"),
        ({"key_column": "_penstock_digest"}, "_penstock_digest"),
        ({"attributes_column": "KEY"}, "'key' twice"),
        ({"columns": (("a", MappedColumn(name="", type=ColumnType.TEXT)),)}, "''"),
    ],
)
def test_names_in_a_mapping_are_checked(fields: dict[str, Any], named: str) -> None:
    """A name that is no identifier, taken, or given twice is refused when the mapping is made."""
    with pytest.raises(BadTableMapping, match=named):
        TableMapping(**{"kind": Kind.ENTITY, "type_name": "person", "table": "persons", **fields})
