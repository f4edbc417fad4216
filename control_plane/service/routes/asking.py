"""What queries and commands of the control plane are asked with, as their paths, queries and bodies have it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field
from starlette.convertors import Convertor, register_url_convertor

from control_plane.web.bodies import LONGEST_REASON, Body
from penstock.errors import InvalidIdentifier, NotFound
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.use_cases.queries import batch_id_of

SLUG = f"^{ids.SLUG.pattern}$"
MOMENT = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}[.][0-9]{6}Z"
"""A moment in a name, as far as a pattern can say it: there are months and days that no year has."""
BATCH = f"^{ids.SLUG.pattern}@{MOMENT}$"
BatchPath = Annotated[
    str, Path(pattern=BATCH, examples=["sql_catalog@2026-11-20T19-24-14.000000Z"])
]
SourcePath = Annotated[str, Path(pattern=SLUG, examples=["sql_catalog"])]
TargetPath = Annotated[str, Path(pattern=SLUG, examples=["registry"])]
LetterPath = Annotated[
    str, Path(pattern="^[0-9a-f]{32}$", examples=["5f0c2f3b7a9d4c1e8b6a4d2c0e1f3a5b"])
]
OnlySource = Annotated[
    str | None, Query(pattern=SLUG, description="Only of this source.", examples=["sql_catalog"])
]
OnlyTarget = Annotated[
    str | None, Query(pattern=SLUG, description="Only for this target.", examples=["registry"])
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most that one page has.")]
NeededReason = Annotated[
    str, Field(min_length=1, max_length=LONGEST_REASON, examples=["the source is being moved"])
]
TargetField = Annotated[
    str | None,
    Field(pattern=SLUG, description="Needed where a batch goes to several.", examples=["registry"]),
]


class HexConvertor(Convertor[str]):
    """Ids in paths that other words stand beside: what is none of them leads elsewhere, or nowhere."""

    regex = "[0-9a-f]{32}"

    def convert(self, value: str) -> str:
        """Return an id as a path has it."""
        return value

    def to_string(self, value: str) -> str:
        """Return an id as a path has it."""
        return value


register_url_convertor("hex32", HexConvertor())


class Because(Body):
    """Why something is done; kept in the audit log."""

    reason: NeededReason


class ToTarget(Body):
    """What is done to a batch on its way to a target, and why."""

    target: TargetField = None
    reason: Annotated[str, Field(max_length=LONGEST_REASON, examples=["the target is back"])] = ""


class ToTargetBecause(Body):
    """The same where those who meet it later have to understand why."""

    target: TargetField = None
    reason: NeededReason


def batch_of(text: str) -> BatchId:
    """Read a batch id that has its form; raises ``NotFound`` where its moment is none."""
    try:
        return batch_id_of(text)
    except InvalidIdentifier as error:
        raise NotFound(f"there is no batch {text!r}: {error}") from None


def source_of(text: str | None) -> SourceId | None:
    """Read a source id, if there is one; raises ``InvalidIdentifier``."""
    return None if text is None else ids.source_id(text)


def target_of(text: str | None) -> TargetId | None:
    """Read a target id, if there is one; raises ``InvalidIdentifier``."""
    return None if text is None else ids.target_id(text)
