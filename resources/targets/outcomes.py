"""What a database's errors mean for a chunk: away for now, refused, or a defect."""

from __future__ import annotations

from sqlalchemy import exc

from penstock.errors import PenstockError
from penstock.ports.target import Rejected, Unavailable

_MESSAGE_CHARACTERS = 500


def outcome_of(error: exc.SQLAlchemyError) -> Rejected | Unavailable:
    """Return the outcome that an error stands for; raises what no retry and no other data would mend."""
    message = str(getattr(error, "orig", None) or error).strip()[:_MESSAGE_CHARACTERS]
    if isinstance(error, exc.IntegrityError | exc.DataError):
        return Rejected(code="refused_by_database", message=message)
    if isinstance(error, exc.ProgrammingError) or "no such table" in message:
        raise PenstockError(
            f"the target's tables are not as they should be: {message}. Run `penstock up`, which migrates them"
        ) from error
    if isinstance(error, exc.DBAPIError | exc.TimeoutError):
        return Unavailable(message=message)
    raise error
