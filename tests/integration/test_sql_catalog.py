"""Cataloguing real databases: what is told of them, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, make_url, text

from penstock.batch.collected import Collected, collect
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness
from penstock.identity.canonical import canonical_text
from resources.sources.sql_catalog import sql_catalog

SHOP = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name VARCHAR(80) NOT NULL, note TEXT DEFAULT 'none');
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL,
    parent_id INTEGER,
    amount NUMERIC(10, 2),
    CONSTRAINT fk_customer FOREIGN KEY (customer_id) REFERENCES customers (id) ON DELETE CASCADE,
    CONSTRAINT fk_parent FOREIGN KEY (parent_id) REFERENCES orders (id),
    CONSTRAINT uq_pair UNIQUE (customer_id, parent_id),
    CONSTRAINT ck_amount CHECK (amount > 0)
);
CREATE INDEX by_amount ON orders (amount, id);
CREATE UNIQUE INDEX by_lower_name ON customers (lower(name));
CREATE VIEW spent AS
    SELECT c.name AS who, sum(o.amount) AS total
    FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.name;
CREATE TABLE "in/out %" ("a:b" INTEGER, "" INTEGER);
"""


def run(url: str, script: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in filter(str.strip, script.split(";")):
            connection.execute(text(statement.replace(":", "\\:")))
    engine.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'shop.db'}"
        run(url, "CREATE TABLE t (a int); DROP TABLE t")
        return url
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def shop(database: str) -> str:
    """A small shop with every kind of object."""
    # PostgreSQL has no empty names.
    run(database, SHOP if database.startswith("sqlite") else SHOP.replace('""', '"."'))
    return database


def catalog(url: str, **options: Any) -> Collected:
    return collect(sql_catalog("shop", url=url, name="shop", **options))


def schema_of(url: str) -> str:
    return "shop/main" if url.startswith("sqlite") else "shop/public"


@pytest.fixture
def key(shop: str) -> Callable[..., str]:
    return lambda *names: "/".join([schema_of(shop), *names])


def test_every_object_is_an_entity(shop: str, key: Callable[..., str]) -> None:
    """Tables, views, columns, keys, constraints and indexes each have a stable key below their container."""
    found = catalog(shop)
    assert found.keys("database") == {"shop"}
    assert found.keys("schema") == {schema_of(shop)}
    assert found.keys("table") == {key("customers"), key("orders"), key("in%2Fout %25")}
    assert found.keys("view") == {key("spent")}
    assert found.keys("column") >= {
        key("orders", "amount"),
        key("spent", "total"),
        key("in%2Fout %25", "a%3Ab"),
        key("in%2Fout %25", "%-" if "main" in key() else "%2E"),
    }
    assert found.keys("primary_key") == {
        key("orders", "primary_key:"),
        key("customers", "primary_key:"),
    }
    assert found.keys("foreign_key") == {
        key("orders", "foreign_key:fk_customer"),
        key("orders", "foreign_key:fk_parent"),
    }
    assert found.keys("unique_constraint") == {key("orders", "unique:uq_pair")}
    assert found.keys("index") >= {
        key("orders", "index:by_amount"),
        key("customers", "index:by_lower_name"),
    }


def test_columns_tell_type_nullability_default_and_place(
    shop: str, key: Callable[..., str]
) -> None:
    """A column's type is in the words of its own database."""
    found = catalog(shop)
    sqlite = shop.startswith("sqlite")
    assert found.entities["column", key("customers", "name")] == {
        "name": "name",
        "ordinal": 2,
        "type": "VARCHAR(80)" if sqlite else "character varying(80)",
        "nullable": False,
    }
    note = found.entities["column", key("customers", "note")]
    assert note["nullable"] is True
    assert note["default"] == ("'none'" if sqlite else "'none'::text")
    assert found.entities["column", key("orders", "amount")]["type"] == (
        "NUMERIC(10, 2)" if sqlite else "numeric(10,2)"
    )


def test_keys_constraints_and_indexes_tell_their_columns(
    shop: str, key: Callable[..., str]
) -> None:
    """A foreign key tells what it refers to and how, an index whether it is unique and of what."""
    found = catalog(shop)
    foreign_key = found.entities["foreign_key", key("orders", "foreign_key:fk_customer")]
    assert foreign_key["columns"] == ["customer_id"]
    assert foreign_key["referred_table"] == "customers"
    assert foreign_key["referred_columns"] == ["id"]
    assert foreign_key["options"] == {"ondelete": "CASCADE"}
    assert found.entities["primary_key", key("orders", "primary_key:")]["columns"] == ["id"]
    by_amount = found.entities["index", key("orders", "index:by_amount")]
    assert (by_amount["columns"], by_amount["unique"]) == (["amount", "id"], False)
    by_name = found.entities["index", key("customers", "index:by_lower_name")]
    assert by_name["unique"] is True
    assert "lower" in str(by_name.get("sql") or by_name.get("expressions"))
    assert "ck_amount" in found.entities["table", key("orders")]["checks"]


def test_relationships_join_what_belongs_together(shop: str, key: Callable[..., str]) -> None:
    """Containers contain, foreign keys refer, indexes index, and views read down to the column."""
    found = catalog(shop)
    assert {("shop", key()), (key(), key("orders")), (key(), key("spent"))} <= found.edges(
        "contains"
    )
    assert (key("orders"), key("orders", "amount")) in found.edges("contains")
    assert found.edges("references") == {
        (key("orders"), key("customers")),
        (key("orders", "customer_id"), key("customers", "id")),
        (key("orders"), key("orders")),
        (key("orders", "parent_id"), key("orders", "id")),
    }
    assert (key("orders", "index:by_amount"), key("orders", "amount")) in found.edges("indexes")
    assert found.edges("reads") >= {
        (key("spent"), key("customers")),
        (key("spent"), key("orders", "customer_id")),
        (key("spent", "who"), key("customers", "name")),
        (key("spent", "total"), key("orders", "amount")),
    }
    assert (key("spent", "who"), key("orders", "amount")) not in found.edges("reads")


def test_everything_is_complete_and_nothing_dangles(shop: str, key: Callable[..., str]) -> None:
    """A whole catalog proves absences of every type, and each end of each relationship is in it."""
    found = catalog(shop)
    assert found.dangling() == set()
    types = {
        *((Kind.ENTITY, name) for name, _ in found.entities),
        *((Kind.RELATIONSHIP, name) for _, name, _ in found.relationships),
    }
    assert len(types) == 13
    for kind, type_name in types - {(Kind.ENTITY, "database")}:
        assert found.absence_deletes(type_name, key("gone", "gone"), kind=kind)


def test_what_is_dropped_is_absent_inside_a_complete_scope(
    shop: str, key: Callable[..., str]
) -> None:
    """A dropped column and a dropped table are gone from the next catalog, which proves that they are."""
    before = catalog(shop)
    run(shop, 'ALTER TABLE customers DROP COLUMN note; DROP TABLE "in/out %"')
    after = catalog(shop)
    gone = {name for name in before.entities if name not in after.entities}
    assert ("column", key("customers", "note")) in gone
    assert ("table", key("in%2Fout %25")) in gone
    assert all(after.absence_deletes(*name) for name in gone)
    edges = {name for name in before.relationships if name not in after.relationships}
    assert edges
    assert all(after.absence_deletes(e[1], e[0], kind=Kind.RELATIONSHIP) for e in edges)


def test_only_what_is_altered_changes(shop: str, key: Callable[..., str]) -> None:
    """Two catalogs of an unchanged database are equal, and a new column changes nothing but itself."""
    before = catalog(shop)
    assert catalog(shop).entities == before.entities
    run(shop, "ALTER TABLE customers ADD COLUMN city TEXT")
    after = catalog(shop)
    assert {n for n in after.entities if after.entities[n] != before.entities.get(n)} == {
        ("column", key("customers", "city"))
    }


def test_attributes_can_all_be_stored(shop: str) -> None:
    """Every attribute has a canonical encoding."""
    found = catalog(shop)
    for attributes in [*found.entities.values(), *found.relationships.values()]:
        assert canonical_text(attributes)


def test_tables_left_out_are_filtered_and_counted(shop: str, key: Callable[..., str]) -> None:
    """An excluded table proves nothing by its absence, nor do the edges that would lead to it."""
    found = catalog(shop, exclude="*.customers")
    assert found.filtered[Kind.ENTITY, "table"] == 1
    assert key("customers") not in found.keys("table")
    assert found.completeness("table", key("customers")) is Completeness.FILTERED
    assert found.completeness("column", key("customers", "id")) is Completeness.FILTERED
    assert found.dangling() == set()
    assert found.filtered[Kind.RELATIONSHIP, "references"] == 1
    edge_of = key("orders", "customer_id")
    assert not found.absence_deletes("references", edge_of, kind=Kind.RELATIONSHIP)
    assert not found.absence_deletes("reads", key("spent", "who"), kind=Kind.RELATIONSHIP)
    assert found.absence_deletes("column", key("orders", "gone"))


def test_the_root_of_keys_names_no_host(shop: str) -> None:
    """Without a name of its own, a catalog is called by its dialect and its database."""
    found = collect(sql_catalog("shop", url=shop))
    expected = (
        "sqlite.shop" if shop.startswith("sqlite") else f"postgresql.{make_url(shop).database}"
    )
    assert found.keys("database") == {expected}


def test_extracting_leaves_the_database_as_it_is(database: str) -> None:
    """An empty database gives an empty, complete catalog."""
    found = catalog(database)
    assert found.keys("table") == set()
    assert found.keys("schema") == {schema_of(database)}
    assert found.absence_deletes("table", f"{schema_of(database)}/gone")
