"""What queries and commands of the control plane are asked with, as their paths, queries and bodies have it."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from control_plane.web.bodies import LONGEST_REASON, Body
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.use_cases.queries import batch_id_of

SLUG = f"^{ids.SLUG.pattern}$"
BATCH = rf"^{ids.SLUG.pattern}@\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{{6}}Z$"
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
    """Read a batch id; raises ``InvalidIdentifier``."""
    return batch_id_of(text)


def source_of(text: str | None) -> SourceId | None:
    """Read a source id, if there is one; raises ``InvalidIdentifier``."""
    return None if text is None else ids.source_id(text)


def target_of(text: str | None) -> TargetId | None:
    """Read a target id, if there is one; raises ``InvalidIdentifier``."""
    return None if text is None else ids.target_id(text)
