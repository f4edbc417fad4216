"""Spans and days of moments, in the SQL of either database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Float, String, cast
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

__all__ = ["day_of", "seconds_between"]


class _SecondsBetween(FunctionElement[float]):
    type = Float()
    inherit_cache = True


class _DayOf(FunctionElement[str]):
    type = String()
    inherit_cache = True


def seconds_between(later: ColumnElement[Any], earlier: ColumnElement[Any]) -> ColumnElement[float]:
    """Return the seconds from one moment to another."""
    return cast(_SecondsBetween(later, earlier), Float)


def day_of(moment: ColumnElement[Any]) -> ColumnElement[str]:
    """Return the day of a moment in UTC, ``YYYY-MM-DD``."""
    return _DayOf(moment)


def _arguments(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> list[str]:
    return [compiler.process(clause, **options) for clause in element.clauses]


@compiles(_SecondsBetween, "postgresql")
def _seconds_postgresql(element: _SecondsBetween, compiler: SQLCompiler, **options: Any) -> str:
    later, earlier = _arguments(element, compiler, **options)
    return f"EXTRACT(EPOCH FROM ({later} - {earlier}))"


@compiles(_SecondsBetween, "sqlite")
def _seconds_sqlite(element: _SecondsBetween, compiler: SQLCompiler, **options: Any) -> str:
    later, earlier = _arguments(element, compiler, **options)
    # A julianday is a float of days that stands for whole milliseconds.
    return f"round((julianday({later}) - julianday({earlier})) * 86400.0, 3)"


@compiles(_DayOf, "postgresql")
def _day_postgresql(element: _DayOf, compiler: SQLCompiler, **options: Any) -> str:
    (moment,) = _arguments(element, compiler, **options)
    return f"to_char({moment} AT TIME ZONE 'UTC', 'YYYY-MM-DD')"


@compiles(_DayOf, "sqlite")
def _day_sqlite(element: _DayOf, compiler: SQLCompiler, **options: Any) -> str:
    (moment,) = _arguments(element, compiler, **options)
    return f"substr({moment}, 1, 10)"
