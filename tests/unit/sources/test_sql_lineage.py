"""Which columns a view reads."""

from __future__ import annotations

import pytest

from resources.sources.sql_lineage import Lineage, ViewLineage

CATALOG = {
    "main": {
        "orders": ["id", "customer_id", "amount", "Note"],
        "customers": ["id", "name"],
        "big": ["id", "name"],
    },
    "audit": {"log": ["id", "entry"]},
    "empty": {},
}


def lineage(sql: str, *columns: str, dialect: str = "postgresql") -> ViewLineage:
    return Lineage(dialect=dialect, columns=CATALOG).of_view(
        schema="main", sql=sql, columns=columns
    )


def origins(found: ViewLineage) -> dict[str, set[str]]:
    return {
        column: {".".join(name[1:]) for name in names} for column, names in found.by_column.items()
    }


@pytest.mark.parametrize("dialect", ["postgresql", "sqlite", "mysql", "mssql", "unheard_of"])
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select name as n from customers", {"n": {"customers.name"}}),
        ("select * from customers", {"id": {"customers.id"}, "name": {"customers.name"}}),
        (
            "select c.id, upper(c.name) as shout from customers as c",
            {"id": {"customers.id"}, "shout": {"customers.name"}},
        ),
        (
            "with spent as (select customer_id, sum(amount) as total from orders "
            "group by customer_id) select c.name, s.total from customers c "
            "join spent s on s.customer_id = c.id",
            {"name": {"customers.name"}, "total": {"orders.amount"}},
        ),
        (
            "select id, name from customers union all select id, entry from audit.log",
            {"id": {"customers.id", "log.id"}, "name": {"customers.name", "log.entry"}},
        ),
        (
            "select c.id, (select max(o.amount) from orders o where o.customer_id = c.id) as most "
            "from customers c",
            {"id": {"customers.id"}, "most": {"orders.amount"}},
        ),
        (
            "select q.name from (select b.* from big b) q",
            {"name": {"big.name"}},
        ),
        ("select count(*) as n, 1 as k from orders", {"n": set(), "k": set()}),
    ],
)
def test_columns_are_followed_to_where_they_come_from(
    dialect: str, sql: str, expected: dict[str, set[str]]
) -> None:
    """Aliases, stars, expressions, CTEs, unions and subqueries lead to the columns behind them."""
    found = lineage(sql, *expected, dialect=dialect)
    assert found.error is None
    assert origins(found) == expected


def test_conditions_are_read_but_are_not_values() -> None:
    """A column of a join or a filter is read by the view, and is no origin of any of its columns."""
    found = lineage(
        "select c.name from customers c join orders o on o.customer_id = c.id where o.amount > 1",
        "name",
    )
    assert {".".join(name[1:]) for name in found.columns} == {
        "customers.name",
        "customers.id",
        "orders.customer_id",
        "orders.amount",
    }
    assert found.tables == {("main", "customers"), ("main", "orders")}
    assert origins(found) == {"name": {"customers.name"}}


def test_a_views_own_names_go_by_position() -> None:
    """``create view v(a, b)`` renames the outputs; the catalog's names of the view's columns count."""
    found = lineage(
        "create view v(a, b) as select id, name from customers", "a", "b", dialect="sqlite"
    )
    assert origins(found) == {"a": {"customers.id"}, "b": {"customers.name"}}


def test_case_is_folded_as_the_database_folds_it() -> None:
    """SQLite finds a name in any case; PostgreSQL only the quoted one where it is not lower case."""
    assert origins(lineage("select NOTE from ORDERS", "n", dialect="sqlite")) == {
        "n": {"orders.Note"}
    }
    assert origins(lineage('select "Note" from Orders', "n")) == {"n": {"orders.Note"}}
    assert origins(lineage("select Note from orders", "n")) == {"n": set()}


def test_a_recursive_view_ends() -> None:
    """A recursive CTE leads to its anchor's columns."""
    found = lineage(
        "with recursive r(n) as (select id from orders union all select n + 1 from r where n < 9) "
        "select n from r",
        "n",
    )
    assert origins(found) == {"n": {"orders.id"}}


def test_what_cannot_be_parsed_is_an_error_of_the_view() -> None:
    """Broken or unknown SQL is told in one line without terminal codes, and raises nothing."""
    found = lineage("select from from where", "a")
    assert found.error is not None
    assert found.error.startswith("ParseError: ")
    assert "\x1b" not in found.error
    assert not found.tables


def test_tables_are_known_even_where_columns_are_not() -> None:
    """When outputs cannot be told apart, the tables that are read still are, and the error says so."""
    found = lineage("select gone.* from gone, customers c where c.id = 1", "x", "y")
    assert found.tables == {("main", "customers")}
    assert found.outside == {"main.gone"}
    assert found.error is not None


def test_a_query_without_tables_reads_nothing() -> None:
    """Constants and table functions are no error."""
    assert lineage("values (1, 2)", "a", "b").tables == frozenset()
    assert lineage("select g from generate_series(1, 3) as g", "g").outside == frozenset()
