"""Published operations under the registry's rules: what is refused, what the others are validated by and refer to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, delete, insert, select

from penstock.batch.rows import Kind
from penstock.identity.ids import TenantId
from penstock.ports.target import ApplyContext, Lack, OperationFailure, Outcome
from penstock.registry.events import EventAction, StreamId, StreamKind
from penstock.registry.problems import Problem, ProblemKind
from penstock.use_cases.registry_bulk import Chunk, as_message, screen
from penstock.use_cases.registry_platform import RegistryPolicy
from penstock.use_cases.registry_validators import Validators
from resources.registry.chunk import ChunkStore
from resources.registry.rows import beside_of, matches, read_rows
from resources.targets.registry_tables import registry_event, registry_reference

SCHEMA_VERSION = "schema_version"
"""A column of a chunk that has been screened: the version that validated each row, null where none did."""
_AT_ONCE = 500
_T = TypeVar("_T")
_STREAM_KINDS = {Kind.ENTITY: StreamKind.ENTITY, Kind.RELATIONSHIP: StreamKind.RELATIONSHIP}


@dataclass(frozen=True, kw_only=True)
class BulkRules:
    """What published operations are held to; compiled schemas are kept between chunks."""

    policy: RegistryPolicy = field(default_factory=RegistryPolicy)
    policies: Mapping[TenantId, RegistryPolicy] = field(default_factory=dict)
    """Of tenants that have one of their own."""
    validators: Validators = field(default_factory=Validators)


@dataclass(frozen=True, kw_only=True, slots=True)
class Screening:
    """A chunk of one kind without what is refused."""

    rows: pa.Table
    failures: tuple[OperationFailure, ...] = ()
    references: Mapping[StreamId, tuple[bytes, tuple[StreamId, ...]]] = field(default_factory=dict)
    """What a stream refers to once an operation has been applied, with that operation's id."""


def screened(
    connection: Connection, rows: pa.Table, kind: Kind, context: ApplyContext, rules: BulkRules
) -> Screening:
    """Screen a chunk, in the transaction that will apply it.

    What was applied before is never refused: its receipt says that the registry holds it, whatever its schema is now.
    """
    chunk = Chunk(
        operations=rows,
        kind=_STREAM_KINDS[kind],
        tenant=context.tenant_id,
        source=context.source_id,
        now=context.now,
        store=ChunkStore(connection),
        policy=rules.policies.get(context.tenant_id, rules.policy),
        validators=rules.validators,
    )
    found = screen(chunk)
    ids = rows["operation_id"]
    refused = dict(sorted(found.refused.items()))
    known = _known(connection, [ids[n].as_py() for n in refused])
    refused = {n: problem for n, problem in refused.items() if ids[n].as_py() not in known}
    references = {
        chunk.stream(n): (ids[n].as_py(), streams)
        for n, streams in found.references.items()
        if n not in refused
    }
    if found.versions:
        rows = rows.append_column(SCHEMA_VERSION, _versions(rows, found.versions))
    return Screening(
        rows=_without(rows, list(refused)),
        failures=tuple(
            _failure(ids[n].as_py(), problem, uncontained=n in found.uncontained)
            for n, problem in refused.items()
        ),
        references=references,
    )


def keep_references(connection: Connection, screening: Screening) -> None:
    """Keep what applied operations refer to, in place of what was kept of the same streams before."""
    held = read_rows(connection, list(screening.references))
    here = {
        stream: streams
        for stream, (operation_id, streams) in screening.references.items()
        # Of one that somebody has written to since, that somebody has said what it refers to.
        if stream in held and bytes(held[stream].operation_id) == operation_id
    }
    table = registry_reference
    for some in _pieces(list(here)):
        lanes: dict[tuple[str, str], list[str]] = {}
        for stream in some:
            lanes.setdefault((stream.type_name, stream.source_id), []).append(stream.key)
        for (name, source), keys in lanes.items():
            address = {**beside_of(some[0]), "type_name": name, "source_id": source}
            del address["key"]
            where = [*matches(table, address), table.c.key.in_(keys)]
            connection.execute(delete(table).where(*where))
    new = [_reference(stream, each) for stream, named in here.items() for each in named]
    if new:
        connection.execute(insert(table), new)


def _reference(stream: StreamId, named: StreamId) -> dict[str, str]:
    return {
        **beside_of(stream),
        "target_type": named.type_name,
        "target_source": named.source_id,
        "target_key": named.key,
    }


def _failure(operation_id: bytes, problem: Problem, *, uncontained: bool) -> OperationFailure:
    lacks = Lack.REFERENCE if problem.kind is ProblemKind.REFERENCE_MISSING else None
    return OperationFailure(
        operation_id=operation_id,
        outcome=Outcome.REJECTED,
        code=problem.code,
        message=as_message(problem),
        lacks=Lack.CONTAINER if uncontained else lacks,
    )


def _without(rows: pa.Table, positions: Sequence[int]) -> pa.Table:
    if not positions:
        return rows
    keep = np.ones(len(rows), bool)
    keep[list(positions)] = False
    return rows.filter(pa.array(keep))


def _versions(rows: pa.Table, by_type: Mapping[str, int]) -> pa.ChunkedArray:
    """Return per operation the version that validated it; null for deletes and for types that nothing validates."""
    found: pa.ChunkedArray | pa.Scalar = pa.scalar(None, pa.int32())
    is_written = pc.not_equal(rows["action"], EventAction.DELETE)
    for name, version in by_type.items():
        here = pc.and_(is_written, pc.equal(rows["type_name"], name))
        found = pc.if_else(here, pa.scalar(version, pa.int32()), found)
    return found


def _known(connection: Connection, ids: Sequence[bytes]) -> set[bytes]:
    log = registry_event.c.operation_id
    found: set[bytes] = set()
    for some in _pieces(ids):
        found |= {bytes(each) for each in connection.scalars(select(log).where(log.in_(some)))}
    return found


def _pieces(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
