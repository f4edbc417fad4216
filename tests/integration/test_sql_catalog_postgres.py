"""What only a server shows: several schemas, lost connections, refused ones, and types of its own."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from penstock.batch.collected import Collected, collect
from penstock.batch.rows import Entity, Kind
from penstock.batch.scope import Completeness
from penstock.batch.source import Extract, Extracted, source
from resources.sources.errors import SourceUnavailable
from resources.sources.sql_catalog import sql_catalog

pytestmark = pytest.mark.postgres

SCHEMAS = """
CREATE SCHEMA sales; CREATE SCHEMA hr; CREATE SCHEMA zoo;
CREATE TABLE public.country (code text PRIMARY KEY);
CREATE TABLE hr.person (id int PRIMARY KEY, boss int REFERENCES hr.person, country text REFERENCES country);
CREATE TABLE sales.deal (id int PRIMARY KEY, seller int REFERENCES hr.person (id), size int);
CREATE VIEW sales.by_seller AS
    SELECT p.id AS seller, sum(d.size) AS size FROM sales.deal d JOIN hr.person p ON p.id = d.seller
    GROUP BY p.id;
CREATE MATERIALIZED VIEW zoo.big AS SELECT * FROM sales.by_seller WHERE size > 10;
CREATE INDEX ON zoo.big (seller);
CREATE TABLE zoo.animal (id int);
"""
RELATIONSHIP = Kind.RELATIONSHIP


def run(url: str, script: str) -> list[tuple[Any, ...]]:
    parts = make_url(url)
    with psycopg.connect(
        host=parts.query["host"], user="postgres", dbname=parts.database, autocommit=True
    ) as connection:
        cursor = connection.execute(script)
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def url(postgres_url: str) -> str:
    run(postgres_url, SCHEMAS)
    return postgres_url


def catalog(url: str, **options: Any) -> Collected:
    return collect(sql_catalog("shop", url=url, name="shop", **options))


def test_edges_lead_from_schema_to_schema(url: str) -> None:
    """Foreign keys and views lead into other schemas, whatever is on the server's search path."""
    found = catalog(url)
    assert found.keys("schema") == {"shop/hr", "shop/public", "shop/sales", "shop/zoo"}
    assert found.edges("references") == {
        ("shop/hr/person", "shop/hr/person"),
        ("shop/hr/person/boss", "shop/hr/person/id"),
        ("shop/hr/person", "shop/public/country"),
        ("shop/hr/person/country", "shop/public/country/code"),
        ("shop/sales/deal", "shop/hr/person"),
        ("shop/sales/deal/seller", "shop/hr/person/id"),
    }
    assert {
        ("shop/sales/by_seller/seller", "shop/hr/person/id"),
        ("shop/sales/by_seller/size", "shop/sales/deal/size"),
        ("shop/zoo/big/size", "shop/sales/by_seller/size"),
    } <= found.edges("reads")
    assert found.entities["view", "shop/zoo/big"]["materialized"] is True
    assert found.keys("index") >= {"shop/zoo/big/index:big_seller_idx"}
    assert found.dangling() == set()


def test_a_dropped_schema_is_absent_inside_a_complete_scope(url: str) -> None:
    """When all schemas are listed, what is not listed is gone with all that was in it."""
    before = catalog(url)
    run(url, "DROP SCHEMA zoo CASCADE")
    after = catalog(url)
    gone = before.entities.keys() - after.entities.keys()
    assert {type_name for type_name, _ in gone} >= {"schema", "table", "view", "column", "index"}
    assert all(after.absence_deletes(*name) for name in gone)


def test_the_databases_own_schemas_are_left_out_unless_asked_for(url: str) -> None:
    """information_schema is counted as left out; asking for a schema reads it and nothing else."""
    found = catalog(url)
    assert found.filtered[Kind.ENTITY, "schema"] == 1
    assert found.completeness("view", "shop/information_schema/tables") is Completeness.FILTERED
    asked = catalog(url, schemas=["information_schema", "never_there"])
    assert asked.keys("schema") == {"shop/information_schema"}
    assert "shop/information_schema/tables" in asked.keys("view")
    assert asked.completeness("table", "shop/hr/person") is Completeness.FILTERED
    assert asked.absence_deletes("table", "shop/never_there/t")


def test_edges_into_a_schema_left_out_prove_nothing(url: str) -> None:
    """The edges of the one table and the one view that lead out are filtered; those of others are complete."""
    found = catalog(url, exclude=["hr"])
    assert found.dangling() == set()
    assert found.completeness("table", "shop/hr/person") is Completeness.FILTERED
    assert found.filtered[RELATIONSHIP, "references"] == 1
    for name, key in [("references", "shop/sales/deal"), ("reads", "shop/sales/by_seller/seller")]:
        assert found.completeness(name, key, kind=RELATIONSHIP) is Completeness.FILTERED
    assert found.absence_deletes("reads", "shop/zoo/big", kind=RELATIONSHIP)
    assert ("shop/sales/by_seller/size", "shop/sales/deal/size") in found.edges("reads")


def test_a_schema_whose_reading_breaks_off_is_failed_and_the_rest_goes_on(url: str) -> None:
    """The server drops the connection before one schema is read: it alone is failed, and a new one is made."""
    inner = sql_catalog("shop", url=url + "&application_name=doomed", name="shop")

    @source("shop", relationship_types=inner.relationship_types)
    def interrupted(extract: Extract) -> Iterator[Extracted]:
        for row in inner.extractor(extract):
            yield row
            if isinstance(row, Entity) and row.entity_key == "shop/public":
                killed = run(
                    url,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'doomed'",
                )
                assert killed == [(True,)]

    found = collect(interrupted)
    assert found.keys("table") == {"shop/hr/person", "shop/sales/deal", "shop/zoo/animal"}
    for kind, name in [(Kind.ENTITY, "table"), (Kind.ENTITY, "column"), (RELATIONSHIP, "reads")]:
        assert found.completeness(name, "shop/public/country", kind=kind) is Completeness.FAILED
        assert found.completeness(name, "shop/zoo/animal", kind=kind) is Completeness.COMPLETE
    assert ("shop/sales/deal/seller", "shop/hr/person/id") in found.edges("references")
    assert found.dangling() == set()
    person = found.completeness("references", "shop/hr/person/country", kind=RELATIONSHIP)
    assert person is Completeness.FILTERED


def test_one_object_that_cannot_be_described_costs_only_itself(url: str) -> None:
    """A table whose catalog entries are broken is listed with its error; the schema is read all the same."""
    run(
        url,
        "SET allow_system_table_mods = on; CREATE TABLE sales.lost (id int PRIMARY KEY);"
        "CREATE TABLE sales.torn (lost int REFERENCES sales.lost);"
        "DELETE FROM pg_class WHERE oid = 'sales.lost'::regclass",
    )
    found = catalog(url)
    torn = found.entities["table", "shop/sales/torn"]
    assert "cache lookup failed" in torn["reflection_error"]
    assert found.completeness("column", "shop/sales/torn/lost") is Completeness.FAILED
    assert "shop/sales/deal/size" in found.keys("column")
    assert found.absence_deletes("column", "shop/sales/deal/gone")
    assert ("shop/sales/by_seller/size", "shop/sales/deal/size") in found.edges("reads")


def test_types_that_sqlalchemy_does_not_know_are_told_by_the_server(postgres_url: str) -> None:
    """Enums, domains, arrays and composites have the names that the server gives them."""
    run(
        postgres_url,
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN year AS int CHECK (VALUE > 0);"
        "CREATE TYPE pair AS (a int, b text);"
        "CREATE TABLE t (m mood, y year, p pair, l mood[], b box, g int GENERATED ALWAYS AS (1) STORED,"
        " i int GENERATED BY DEFAULT AS IDENTITY); COMMENT ON COLUMN t.m IS 'how it is'",
    )
    found = catalog(postgres_url)
    types = {
        key.rpartition("/")[2]: attributes["type"]
        for (name, key), attributes in found.entities.items()
        if name == "column"
    }
    assert types == {
        "m": "public.mood",
        "y": "public.year",
        "p": "public.pair",
        "l": "public.mood[]",
        "b": "box",
        "g": "integer",
        "i": "integer",
    }
    assert found.entities["column", "shop/public/t/m"]["comment"] == "how it is"
    assert found.entities["column", "shop/public/t/g"]["computed"]["persisted"] is True
    assert found.entities["column", "shop/public/t/i"]["identity"]["always"] is False


def test_a_view_that_sqlglot_cannot_parse_reads_what_the_server_knows(url: str) -> None:
    """Its lineage is failed with the reason, which is on the view, too; the other views have theirs."""
    run(
        url,
        "CREATE TABLE zoo.doc (id int, body xml); CREATE VIEW zoo.odd AS SELECT d.id, q.v FROM zoo.doc d,"
        " XMLTABLE('/r' PASSING d.body COLUMNS v text PATH 'v') q",
    )
    found = catalog(url)
    assert found.entities["view", "shop/zoo/odd"]["lineage_error"].startswith("ParseError: ")
    assert found.completeness("reads", "shop/zoo/odd", kind=RELATIONSHIP) is Completeness.FAILED
    assert {name for name in found.edges("reads") if name[0].startswith("shop/zoo/odd")} == {
        ("shop/zoo/odd", "shop/zoo/doc"),
        ("shop/zoo/odd", "shop/zoo/doc/id"),
        ("shop/zoo/odd", "shop/zoo/doc/body"),
    }
    assert ("shop/zoo/big/size", "shop/sales/by_seller/size") in found.edges("reads")


@pytest.mark.parametrize("password", ["hunter2", "p@ss/w:rd", "ö ü%"])
def test_a_password_is_told_to_nobody(url: str, password: str) -> None:
    """Neither rows, scopes nor errors hold it, however it is quoted, when the server is there or is not."""
    secret = make_url(url).set(password=password)
    text = secret.render_as_string(hide_password=False)
    definition = sql_catalog("shop", url=text)
    extract = Extract(source_timestamp=datetime.now(UTC))
    told = [repr(definition), *map(repr, definition.extractor(extract)), repr(extract)]
    assert len(told) > 20
    gone = secret.update_query_dict({"host": "/nowhere", "options": f"-c x={password}"})
    with pytest.raises(SourceUnavailable, match="cannot be reached") as caught:
        collect(sql_catalog("shop", url=gone.render_as_string(hide_password=False)))
    told += [str(caught.value), repr(caught.value.__cause__)]
    assert not [line for line in told if password in line]


def test_a_driver_that_repeats_the_password_is_scrubbed(url: str) -> None:
    """A server's refusal that quotes the connection's options comes without the secret in them."""
    secret = make_url(url).set(password="x1y2z3").update_query_dict({"options": "-c nope=x1y2z3"})
    with pytest.raises(SourceUnavailable) as caught:
        collect(sql_catalog("shop", url=secret.render_as_string(hide_password=False)))
    assert "x1y2z3" not in str(caught.value)


def test_the_catalogued_database_is_only_read(url: str) -> None:
    """The connection of an extract refuses to write."""
    from resources.sources.sql_dialects import open_engine

    engine = open_engine(make_url(url))
    with (
        engine.connect() as connection,
        pytest.raises(Exception, match="read-only transaction"),
    ):
        connection.exec_driver_sql("CREATE TABLE public.nope (id int)")
    engine.dispose()
