"""While the database does not answer, workers and callers are told to come back, and not that something is broken."""

from __future__ import annotations

import psycopg
import pytest
from sqlalchemy.exc import OperationalError

from control_plane.web.answering import database_is_away


def of(orig: BaseException) -> OperationalError:
    return OperationalError("SELECT 1", {}, orig)


@pytest.mark.parametrize(
    "orig",
    [
        psycopg.OperationalError("connection refused"),
        psycopg.errors.AdminShutdown("terminating connection"),
        psycopg.errors.CannotConnectNow("the database system is starting up"),
    ],
)
def test_a_database_that_restarts_is_away(orig: psycopg.OperationalError) -> None:
    """The same request may do in a moment."""
    assert database_is_away(of(orig))


@pytest.mark.parametrize("orig", [psycopg.errors.DiskFull("no space"), ValueError("a mistake")])
def test_what_no_later_try_mends_is_not_away(orig: Exception) -> None:
    """A full disk, and whatever is no word of a database."""
    assert not database_is_away(of(orig))
