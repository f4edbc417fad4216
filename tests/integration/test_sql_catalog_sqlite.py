"""What is peculiar to SQLite files: missing, broken, and with views on nothing."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from penstock.batch.collected import Collected, collect
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness
from penstock.errors import PenstockError
from resources.sources.errors import SourceUnavailable
from resources.sources.sql_catalog import sql_catalog


def write(path: Path, script: str) -> None:
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()


def catalog(path: Path, **settings: object) -> Collected:
    return collect(sql_catalog("shop", url=f"sqlite:///{path}", name="shop"), settings=settings)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "shop #1%.db"


def test_a_file_that_is_not_there_is_an_error_and_stays_away(path: Path) -> None:
    """An empty catalog would delete everything, so there is none; nor is a new file made."""
    with pytest.raises(SourceUnavailable, match="unable to open database file"):
        catalog(path)
    assert not path.exists()


def test_a_file_that_is_no_database_fails_its_schema(path: Path) -> None:
    """What can be connected to but not be read is failed, with the reason, and deletes nothing."""
    path.write_bytes(b"this is not a database" * 100)
    found = catalog(path)
    assert found.keys("schema") == {"shop/main"}
    assert found.completeness("table", "shop/main/t") is Completeness.FAILED
    assert found.completeness("reads", "shop/main/v", kind=Kind.RELATIONSHIP) is Completeness.FAILED
    reasons = {scope.reason for scope in found.scopes if scope.key_prefix == "shop/main"}
    assert any("file is not a database" in str(reason) for reason in reasons)


def test_whatever_breaks_off_a_schema_fails_its_edges_too(path: Path) -> None:
    """An error that no database raised is one as well: here, a pattern that is no text."""
    write(path, "CREATE TABLE t (a INTEGER PRIMARY KEY, b REFERENCES t (a))")
    found = catalog(path, schemas=["main"], exclude=[5])
    assert found.keys("table") == set()
    for kind, name in [
        (Kind.ENTITY, "table"),
        *((Kind.RELATIONSHIP, n) for n in ("references", "reads")),
    ]:
        assert found.completeness(name, "shop/main/t", kind=kind) is Completeness.FAILED


def test_a_view_on_nothing_costs_only_itself(path: Path) -> None:
    """A view whose table was dropped is listed with its SQL and error; all else is complete."""
    write(
        path,
        "CREATE TABLE t (a INT); CREATE VIEW good AS SELECT a FROM t; CREATE TABLE u (b INT);"
        "CREATE VIEW bad AS SELECT b FROM u; DROP TABLE u",
    )
    found = catalog(path)
    assert found.keys("table") == {"shop/main/t"}
    assert ("shop/main/good/a", "shop/main/t/a") in found.edges("reads")
    bad = found.entities["view", "shop/main/bad"]
    assert bad["sql"].startswith("CREATE VIEW bad")
    assert "no such table" in bad["reflection_error"]
    assert found.completeness("column", "shop/main/bad/b") is Completeness.FAILED
    assert found.absence_deletes("column", "shop/main/good/gone")
    assert found.absence_deletes("view", "shop/main/gone")


def test_foreign_keys_without_names_and_to_nothing(path: Path) -> None:
    """Unnamed keys are told apart by their columns; one that refers to nothing has no edge."""
    write(
        path,
        "CREATE TABLE P (Id INTEGER PRIMARY KEY);"
        "CREATE TABLE c (x REFERENCES p(ID), y REFERENCES nowhere(z), w REFERENCES p, v ANY,"
        " UNIQUE (x, y))",
    )
    found = catalog(path)
    assert found.keys("foreign_key") == {
        "shop/main/c/foreign_key::x,p,ID",
        "shop/main/c/foreign_key::y,nowhere,z",
        "shop/main/c/foreign_key::w,p",
    }
    assert found.edges("references") == {
        ("shop/main/c", "shop/main/P"),
        ("shop/main/c/x", "shop/main/P/Id"),
        ("shop/main/c/w", "shop/main/P/Id"),
    }
    assert found.keys("unique_constraint") == {"shop/main/c/unique::x,y"}
    edge = found.relationships["shop/main/c", "references", "shop/main/P"]
    assert len(edge["foreign_keys"]) == 2
    assert found.entities["column", "shop/main/c/v"]["type"] == "ANY"
    assert found.entities["column", "shop/main/c/x"]["type"] == ""


def test_settings_may_be_given_for_one_run(path: Path) -> None:
    """A run may name the catalog otherwise or leave out more; a setting that does not exist is an error."""
    write(path, "CREATE TABLE t (a INT); CREATE TABLE tmp_1 (a INT)")
    found = catalog(path, name="other", exclude=["*.tmp_*"])
    assert found.keys("table") == {"other/main/t"}
    with pytest.raises(PenstockError, match="no setting 'exlude': use exclude, name"):
        catalog(path, exlude="*")


def test_a_url_is_looked_up_when_it_is_needed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable or a function gives the URL at the extract; what is missing or no URL is an error."""
    write(path, "CREATE TABLE t (a INT)")
    source = sql_catalog("shop", url_env="SHOP_URL")
    with pytest.raises(PenstockError, match="set the environment variable SHOP_URL to a"):
        collect(source)
    monkeypatch.setenv("SHOP_URL", "secret nonsense")
    with pytest.raises(PenstockError, match="SHOP_URL is not a SQLAlchemy URL") as caught:
        collect(source)
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("SHOP_URL", f"sqlite:///{path}")
    assert len(collect(source).keys("table")) == 1
    assert len(collect(sql_catalog("s", url=lambda: f"sqlite:///{path}")).keys("table")) == 1


def test_one_url_is_needed_and_no_more() -> None:
    """A catalog without a URL, or with two, is refused where it is declared."""
    with pytest.raises(PenstockError, match="either url or url_env"):
        sql_catalog("shop")
    with pytest.raises(PenstockError, match="either url or url_env"):
        sql_catalog("shop", url="sqlite://", url_env="SHOP_URL")
