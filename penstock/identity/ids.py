"""Ids, timestamps in names, and entity keys: how each is written, and what is refused.

A source, target or tenant id is a slug: it appears in object keys, asset names and table names,
so nothing that needs escaping in any of them is allowed. A batch is named by its source and its
source timestamp; the timestamp's text is fixed-width, so that its order as text is its order in
time. An entity key is a ``/``-separated qualified name; the part before the last ``/`` is its
container.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NewType

from penstock.errors import InvalidIdentifier

SourceId = NewType("SourceId", str)
TargetId = NewType("TargetId", str)
TenantId = NewType("TenantId", str)
BatchId = NewType("BatchId", str)

SLUG = re.compile(r"[a-z][a-z0-9_]{0,62}")
TYPE_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.:-]{0,126}")
MAX_KEY_BYTES = 4096

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{6}Z")
_TIMESTAMP_FORMAT = "%Y-%m-%dT%H-%M-%S.%fZ"


def slug(text: str, *, what: str) -> str:
    """Return ``text`` if it is a slug; ``what`` names it in the error."""
    if not SLUG.fullmatch(text):
        raise InvalidIdentifier(
            f"{what} {text!r} is not a valid id: use 1 to 63 of a-z, 0-9 and _, "
            "beginning with a letter"
        )
    return text


def source_id(text: str) -> SourceId:
    """Return ``text`` as a source id, or raise :class:`InvalidIdentifier`."""
    return SourceId(slug(text, what="source"))


def target_id(text: str) -> TargetId:
    """Return ``text`` as a target id, or raise :class:`InvalidIdentifier`."""
    return TargetId(slug(text, what="target"))


def tenant_id(text: str) -> TenantId:
    """Return ``text`` as a tenant id, or raise :class:`InvalidIdentifier`."""
    return TenantId(slug(text, what="tenant"))


def type_name(text: str, *, what: str = "entity type") -> str:
    """Return ``text`` if it can name an entity or relationship type."""
    if not TYPE_NAME.fullmatch(text):
        raise InvalidIdentifier(
            f"{what} {text!r} is not a valid name: use 1 to 127 of letters, digits and _.:-, "
            "beginning with a letter"
        )
    return text


def timestamp_text(moment: datetime) -> str:
    """Write an aware moment as fixed-width UTC text, e.g. ``2026-11-20T19-24-14.000000Z``."""
    if moment.tzinfo is None:
        raise InvalidIdentifier(f"timestamp {moment!r} has no time zone: pass an aware datetime")
    return moment.astimezone(UTC).strftime(_TIMESTAMP_FORMAT)


def timestamp_from_text(text: str) -> datetime:
    """Read what :func:`timestamp_text` wrote."""
    if not _TIMESTAMP.fullmatch(text):
        raise InvalidIdentifier(
            f"timestamp {text!r} is not of the form 2026-11-20T19-24-14.000000Z"
        )
    try:
        return datetime.strptime(text, _TIMESTAMP_FORMAT).replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidIdentifier(f"timestamp {text!r} names no moment: {error}") from error


def batch_id(source: SourceId, source_timestamp: datetime) -> BatchId:
    """Name the batch of one source at one source timestamp: ``<source>@<timestamp>``."""
    return BatchId(f"{source}@{timestamp_text(source_timestamp)}")


def split_batch_id(text: str) -> tuple[SourceId, datetime]:
    """Return the source and the source timestamp that a batch id names."""
    source, at, timestamp = text.partition("@")
    if not at:
        raise InvalidIdentifier(
            f"batch {text!r} is not of the form <source>@<timestamp>, "
            "e.g. sql_catalog@2026-11-20T19-24-14.000000Z"
        )
    return source_id(source), timestamp_from_text(timestamp)


def container_of(entity_key: str) -> str:
    """Return the key of the container of an entity: all before the last ``/``, or ``""``."""
    return entity_key.rpartition("/")[0]
