"""What every target of this project checks and says alike."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from penstock.ports.target import OperationFailure, Outcome, Rejected


class Moved(Exception):
    """A row is no longer what it was a moment ago: someone else writes to this table."""


def unstorable(operations: pa.Table) -> Rejected | None:
    """Refuse keys with a NUL character everywhere alike: PostgreSQL cannot keep it in text, SQLite would.

    Attributes are canonical text, which has an escape for it.
    """
    for name in ("key", "to_key"):
        holds_nul = pc.match_substring(operations[name], "\0")
        if pc.any(holds_nul).as_py():
            hits = operations.filter(holds_nul)
            return Rejected(
                code="nul_in_key",
                message=f"{name} of {hits['type_name'][0].as_py()} {hits['key'][0].as_py()!r} holds a NUL "
                "character, which no text column can keep: take it out at the source",
            )
    return None


def conflict(row: dict[str, Any], holds: bytes | None) -> OperationFailure:
    """Say what an operation expected and what the target holds instead; ``row`` is the operation's."""
    to = f" -> {row['to_key']!r}" if row["to_key"] is not None else ""
    return OperationFailure(
        operation_id=row["operation_id"],
        outcome=Outcome.CONFLICT,
        code="precondition_failed",
        message=(
            f"{row['action']} of {row['type_name']} {row['key']!r}{to} expected {_state(row['before_digest'])} in the "
            f"target and found {_state(holds)}: something else has changed it"
        ),
    )


def edited(row: dict[str, Any]) -> OperationFailure:
    """Say that somebody edited a row past its digest since it was read; ``row`` is the operation's."""
    return OperationFailure(
        operation_id=row["operation_id"],
        outcome=Outcome.CONFLICT,
        code="edited_meanwhile",
        message=f"{row['action']} of {row['type_name']} {row['key']!r}: somebody edited the row by hand since it was "
        "read, and people own fields of this type",
    )


def _state(digest: bytes | None) -> str:
    return "nothing" if digest is None else f"digest {digest.hex()}"
