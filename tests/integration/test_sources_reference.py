"""The reference of ready sources names all that they yield."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import pytest

from penstock.batch.collected import Collected, collect
from resources.sources.python_environment import python_environment
from resources.sources.sql_catalog import sql_catalog

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sources.md"


@pytest.fixture(scope="module")
def rows() -> dict[str, set[str]]:
    """The words in code style of every row of every table of the page, by the first of them."""
    found: dict[str, set[str]] = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        words = re.findall(r"`([^`]+)`", line)
        if line.startswith("| `"):
            found.setdefault(words[0], set()).update(words)
    return found


def check(found: Collected, rows: dict[str, set[str]]) -> None:
    for (type_name, _), attributes in found.entities.items():
        assert attributes.keys() <= rows[type_name], type_name
    for (_, type_name, _), attributes in found.relationships.items():
        assert attributes.keys() <= rows[type_name], type_name


def test_the_page_names_every_type_and_attribute_of_a_catalog(
    rows: dict[str, set[str]], tmp_path: Path
) -> None:
    """On SQLite, with every kind of object in the database."""
    connection = sqlite3.connect(tmp_path / "shop.db")
    connection.executescript(
        "CREATE TABLE a (x INTEGER PRIMARY KEY, y TEXT DEFAULT 'q' UNIQUE, z AS (x + 1) STORED,"
        " CHECK (x > 0)); CREATE INDEX i ON a (y); CREATE TABLE b (r REFERENCES a (x) ON DELETE CASCADE);"
        "CREATE VIEW v AS SELECT x, r FROM a JOIN b ON r = x; CREATE VIEW w AS SELECT g FROM gone"
    )
    connection.close()
    check(collect(sql_catalog("shop", url=f"sqlite:///{tmp_path / 'shop.db'}")), rows)


@pytest.mark.postgres
def test_the_page_names_every_type_and_attribute_of_a_server(
    rows: dict[str, set[str]], postgres_url: str
) -> None:
    """On PostgreSQL, with its own information schema, which has views of every kind."""
    found = collect(sql_catalog("shop", url=postgres_url, schemas=["information_schema"]))
    assert len(found.keys("view")) > 50
    check(found, rows)


def test_the_page_names_every_type_and_attribute_of_an_environment(
    rows: dict[str, set[str]],
) -> None:
    """With all that the tests' own environment holds."""
    check(collect(python_environment("tools")), rows)
