"""Who waits for whom on PostgreSQL; on SQLite there is one writer at a time, and nothing of this is needed.

Advisory locks are taken before a transaction writes anything, in one order everywhere: first the lanes (a source of a
tenant), which commands share and a publish holds alone, then the streams. So a transaction draws its number, by which
readers order the log, once those before it on the same streams have committed: the order of a stream's events is the
same in the log, in its history and in what is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, text

from penstock.identity.digest import digest
from penstock.ports.registry import ABSENT, Append, Requirement, Sole, Unchanged
from penstock.registry.events import StreamId
from resources.control_db.log_order import NUMBER
from resources.targets.registry_tables import CHANNEL, LANE_LOCK_CLASS

_STREAM_LOCK_CLASS = LANE_LOCK_CLASS + 1
_BUCKETS = 2048
"""Streams share locks: the server's table of locks has room for some 6,000, and a batch may append to 1,000 streams."""
_TAG_LOCK = b"L"

_TAKE = text(
    "SELECT pg_advisory_xact_lock_shared(:lane_class, hashtext(lane))::text "
    "FROM unnest(CAST(:lanes AS text[])) AS lane "
    "UNION ALL SELECT pg_advisory_xact_lock(:stream_class, bucket)::text "
    "FROM unnest(CAST(:buckets AS int[])) AS bucket "
    f"UNION ALL SELECT pg_notify('{CHANNEL}', '')::text "
    f"UNION ALL SELECT CAST({NUMBER} AS text)"
)


def enter(
    connection: Connection, appends: Sequence[Append], requires: Sequence[Requirement]
) -> int:
    """Take the locks of an append, and have its commit wake up who follows the log.

    Returns the number that readers order the append by: drawn last, once all locks are there.
    """
    streams = [append.event.stream for append in appends]
    lanes = sorted({f"{stream.tenant_id}/{stream.source_id}" for stream in streams})
    answers = connection.scalars(
        _TAKE,
        {
            "lane_class": LANE_LOCK_CLASS,
            "lanes": lanes,
            "stream_class": _STREAM_LOCK_CLASS,
            "buckets": sorted({*map(_bucket, streams), *_required(requires)}),
        },
    ).all()
    return int(answers[-1])


def _required(requires: Iterable[Requirement]) -> Iterable[int]:
    for requirement in requires:
        match requirement:
            case Sole():
                yield _hashed(
                    "sole",
                    requirement.tenant_id,
                    requirement.source_id,
                    requirement.type_name,
                    requirement.end,
                    requirement.key,
                )
            case Unchanged(stream=stream, version_tag=tag) if tag == ABSENT:
                # There is no row to lock.
                yield _bucket(stream)
            case _:
                pass


def _bucket(stream: StreamId) -> int:
    return _hashed(
        stream.kind,
        stream.tenant_id,
        stream.source_id,
        stream.type_name,
        stream.key,
        stream.to_key or "",
    )


def _hashed(*parts: str) -> int:
    hashed = digest(_TAG_LOCK, *(part.encode() for part in parts))
    return int.from_bytes(hashed[:8], "big") % _BUCKETS
