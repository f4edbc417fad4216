"""What a database's errors mean for a chunk: away for now, refused, or a defect.

=====================================================  =========================================
error                                                  is
=====================================================  =========================================
a constraint, a value out of bounds, an index entry    ``Rejected``: the executor bisects to the
that is too large                                      culprit
connection lost or refused, deadlock, serialization,   ``Unavailable``: the same chunk may work
lock timeout, "database is locked", disk full          later
a table or column that is not there, no permission     ``PenstockError``: no retry mends it
=====================================================  =========================================
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import exc

from penstock.errors import PenstockError
from penstock.ports.target import Rejected, TargetDown, Unavailable

_MESSAGE_CHARACTERS = 500
_REFUSED = ("22", "23", "44", "54")
"""SQLSTATE classes: data, integrity, with check option, program limits (such as an index entry's size)."""
_DEFECT = ("42", "3F", "0A")
"""SQLSTATE classes: syntax, unknown names and permissions; schema names; features."""
_SQLITE_DEFECT = ("no such table", "no such column", "has no column named")


class TargetTablesWrong(PenstockError):
    """A target's tables are not what it needs them to be, or it may not write to them."""

    code = "target_tables_wrong"


def outcome_of(error: Exception, *, mend: str) -> Rejected | Unavailable:
    """Return the outcome that a database's error stands for.

    ``error`` is SQLAlchemy's or the driver's own. Raises :class:`TargetTablesWrong`, which says to ``mend``, for what
    no retry and no other data would put right.
    """
    # Some drivers quote the statement or the connection on further lines; the first ones say what happened.
    cause: Any = getattr(error, "orig", None) or error
    message = str(cause).strip()[:_MESSAGE_CHARACTERS]
    state = getattr(cause, "sqlstate", None) or ""
    if state.startswith(_DEFECT) or message.startswith(_SQLITE_DEFECT):
        raise TargetTablesWrong(
            f"the target's tables are not as they should be: {message}. {mend}"
        ) from error
    if state.startswith(_REFUSED):
        return Rejected(code="refused_by_database", message=message)
    if state:
        return Unavailable(message=message)
    if isinstance(error, exc.IntegrityError | exc.DataError | exc.InterfaceError):
        return Rejected(code="refused_by_database", message=message)
    if isinstance(error, exc.ProgrammingError):
        raise TargetTablesWrong(f"the target refuses a statement: {message}. {mend}") from error
    if isinstance(error, exc.DBAPIError | exc.TimeoutError) or not isinstance(
        error, exc.SQLAlchemyError
    ):
        return Unavailable(message=message)
    raise error


def down(error: Exception, *, mend: str) -> Exception:
    """Return what a call that has no outcome raises for a database's error: ``TargetDown`` where it may pass."""
    outcome = outcome_of(error, mend=mend)
    return TargetDown(outcome) if isinstance(outcome, Unavailable) else error
