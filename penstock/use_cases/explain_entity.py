"""Why a plan does what it does to one entity, in words and by field: what ``penstock plan explain`` answers.

Both sides are read again as the plan saw them: the batch itself, and the snapshot that the plan names, even if newer
ones have taken its place since. deepdiff compares the two, of this one entity alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.index import IndexFile, find_rows
from penstock.batch.manifest import Manifest, Mode
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness, ScopeMap
from penstock.diff.fields import FieldChange, explain
from penstock.diff.rows import RowRefs
from penstock.errors import NotFound, ObjectMissing
from penstock.identity.canonical import value_of
from penstock.identity.ids import BatchId, TargetId
from penstock.identity.keys import entity_index_keys
from penstock.plan.document import PlanDocument
from penstock.plan.merge import MergedRow
from penstock.plan.operations import Action
from penstock.ports.control import OperationException
from penstock.publish.state import PublishState
from penstock.snapshot.manifest import (
    SnapshotManifest,
    read_snapshot_manifest,
    snapshot_prefix,
)
from penstock.snapshot.view import SnapshotView
from penstock.use_cases.known_rows import KnownRows
from penstock.use_cases.merges import stored_merges
from penstock.use_cases.plan_batch import StoredPlan
from penstock.use_cases.platform import Platform
from penstock.use_cases.queries import (
    OPERATION_COLUMNS,
    PlannedOperation,
    planned_operations,
    stored_plan,
)
from penstock.use_cases.stored_plans import plan_chunks

MAX_RELATIONSHIPS = 50
_ALL = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class EntityExplanation:
    """What a plan does to one entity, and why."""

    batch_id: BatchId
    target_id: TargetId
    entity_type: str
    entity_key: str
    operation: PlannedOperation | None
    """None: the plan leaves it as it is."""
    why: str
    """One sentence."""
    completeness: Completeness
    """Of the scope that the entity lies in, as the batch declares it."""
    before: Mapping[str, Any] | None
    """Attributes that the target was known to hold; None if it was not known."""
    after: Mapping[str, Any] | None
    """Attributes in the batch; None if it is absent or a tombstone."""
    changes: tuple[FieldChange, ...]
    """By path, where both sides are there."""
    exception: OperationException | None
    """Why the operation was not applied, if it was tried or kept back."""
    merged: MergedRow | None
    """What was decided about fields that somebody changed in the target, if anything was."""
    relationships: tuple[PlannedOperation, ...]
    """The first of the operations on relationships that begin or end at the entity."""
    relationship_operations: int
    """All of them, counted."""


def explain_entity(
    platform: Platform, batch: BatchId, entity_key: str, *, target: TargetId | None = None
) -> list[EntityExplanation]:
    """Explain what a batch's plan does to the entity of this key, once per type that it is known under.

    Raises ``NotFound`` if there is no plan, or neither the batch nor the snapshot has such an entity.
    """
    state, plan = stored_plan(platform, batch, target)
    manifest = platform.control.get_batch(batch).manifest
    known = KnownRows(platform, _view_of(platform, plan.document))
    sides = _Sides(platform, manifest, known, entity_key)
    touching = _operations_at(platform, plan, entity_key)
    types = sorted({*sides.types(), *touching.entities})
    if not types:
        raise NotFound(
            f"entity {entity_key!r} is neither in batch {batch!r} nor known at target "
            f"{state.target_id!r} when it was planned: give the whole key, as `penstock plan show` writes it"
        )
    about = _About(
        exceptions=_exceptions(platform, state), merges=_merges(platform, plan, touching)
    )
    return [_explanation(plan.document, manifest, sides, name, touching, about) for name in types]


@dataclass(frozen=True, kw_only=True)
class _About:
    """What became of operations, by id."""

    exceptions: Mapping[str, OperationException]
    merges: Mapping[str, MergedRow]


def _merges(platform: Platform, plan: StoredPlan, touching: _Touching) -> dict[str, MergedRow]:
    wanted = {operation.operation_id for operation in touching.entities.values()}
    merged = stored_merges(platform, plan)
    return {row.operation_id: row for row in merged if row.operation_id in wanted}


def _exceptions(platform: Platform, state: PublishState) -> dict[str, OperationException]:
    if not state.exceptions:
        return {}
    listed = platform.control.list_exceptions(state.batch_id, state.target_id, limit=_ALL)
    return {exception.operation_id: exception for exception in listed}


def _explanation(
    document: PlanDocument,
    manifest: Manifest,
    sides: _Sides,
    type_name: str,
    touching: _Touching,
    about: _About,
) -> EntityExplanation:
    key, operation = sides.entity_key, touching.entities.get(type_name)
    before, (after, is_tombstone) = sides.before(type_name), sides.after(type_name)
    scopes, version = ScopeMap(manifest.scopes), document.snapshot_version
    compared = before is not None and after is not None
    return EntityExplanation(
        batch_id=manifest.batch_id,
        target_id=document.target_id,
        entity_type=type_name,
        entity_key=key,
        operation=operation,
        why=_why(
            _Case(
                manifest=manifest,
                snapshot=f"snapshot {version}" if version else "the empty snapshot",
                type_name=type_name,
                key=key,
                operation=operation,
                is_in_batch=after is not None,
                is_tombstone=is_tombstone,
            )
        ),
        completeness=scopes.completeness(Kind.ENTITY, type_name, key),
        before=before,
        after=after,
        changes=tuple(explain(dict(before or {}), dict(after or {}))) if compared else (),
        exception=about.exceptions.get(operation.operation_id) if operation else None,
        merged=about.merges.get(operation.operation_id) if operation else None,
        relationships=tuple(touching.relationships),
        relationship_operations=touching.relationships_in_all,
    )


# In words ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Case:
    manifest: Manifest
    snapshot: str
    type_name: str
    key: str
    operation: PlannedOperation | None
    is_in_batch: bool
    is_tombstone: bool


def _why(case: _Case) -> str:
    operation = case.operation
    if operation is None:
        return _why_nothing(case)
    match Action(operation.action):
        case Action.CREATE:
            text = f"a create: it is in the batch and not in {case.snapshot}"
        case Action.UPDATE:
            text = f"an update: the batch says something else of it than {case.snapshot}"
        case Action.DELETE:
            text = _proof(case)
    if operation.reason is None:
        return text
    return f"{text}; but it is {operation.verdict} and not sent: {operation.reason}"


def _why_nothing(case: _Case) -> str:
    if case.is_in_batch:
        return f"no change: the batch says of it what {case.snapshot} already holds"
    if case.is_tombstone:
        return (
            f"no change: the batch has a tombstone for it, but it is not in {case.snapshot} anyway"
        )
    return _proof(case)


def _proof(case: _Case) -> str:
    """Say why what the batch does not have is deleted, or is not."""
    if case.is_tombstone:
        return "a delete: the batch has a tombstone for it"
    absent = f"it is in {case.snapshot} and absent from the batch"
    if case.manifest.mode is Mode.DELTA:
        return f"no delete: {absent}, but in a delta batch an absence means nothing"
    scopes = ScopeMap(case.manifest.scopes)
    completeness = scopes.completeness(Kind.ENTITY, case.type_name, case.key)
    scope = _scope_text(case.manifest, case.type_name, case.key, completeness)
    if completeness is Completeness.COMPLETE:
        return f"a delete: {absent}, and {scope} is complete, so what is absent is gone"
    return f"no delete: {absent}, but {scope}, so its absence proves nothing"


def _scope_text(manifest: Manifest, type_name: str, key: str, completeness: Completeness) -> str:
    deciding = [
        scope
        for scope in manifest.scopes
        if scope.kind is Kind.ENTITY
        and scope.type_name == type_name
        and scope.completeness is completeness
        and _covers(scope.key_prefix, key)
    ]
    if not deciding:
        return f"no scope of the batch speaks for {type_name} {key}"
    scope = max(deciding, key=lambda each: len(each.key_prefix))
    where = f" under {scope.key_prefix}" if scope.key_prefix else ""
    said = f"the scope of {type_name}{where}"
    if completeness is Completeness.COMPLETE:
        return said
    reason = f" ({scope.reason})" if scope.reason else ""
    return f"{said} is {completeness}{reason}"


def _covers(prefix: str, key: str) -> bool:
    plain = prefix.rstrip("/")
    return not plain or key == plain or key.startswith(plain + "/")


# What both sides hold ---------------------------------------------------------------------------------------


class _Sides:
    """One entity as the batch has it, and as the target was known to hold it."""

    def __init__(
        self, platform: Platform, manifest: Manifest, known: KnownRows, entity_key: str
    ) -> None:
        self.entity_key = entity_key
        self._rows = platform.batches.rows(manifest, Kind.ENTITY)
        self._known = known
        self._hi, self._lo = entity_index_keys(pa.array([entity_key], pa.string()))

    def types(self) -> Iterator[str]:
        """Yield the types under which either side has it."""
        for name in self._rows.index.sections:
            if self._position(name) >= 0:
                yield name
        for name in self._known.view.types(Kind.ENTITY):
            if self._locator(name) >= 0:
                yield name

    def after(self, type_name: str) -> tuple[Mapping[str, Any] | None, bool]:
        """Return its attributes in the batch, and whether it is a tombstone there."""
        position = self._position(type_name)
        if position < 0:
            return None, False
        section = self._rows.index.sections[type_name]
        row = self._rows.take(np.array([section.start + position], np.int64)).to_pylist()[0]
        if row["tombstone"]:
            return None, True
        return value_of(row["attributes"]), False

    def before(self, type_name: str) -> Mapping[str, Any] | None:
        """Return the attributes that the snapshot knows, or None."""
        locator = self._locator(type_name)
        if locator < 0:
            return None
        nothing = np.zeros(1, np.uint64)
        refs = RowRefs(
            key_hi=self._hi,
            key_lo=self._lo,
            hash_hi=nothing,
            hash_lo=nothing,
            locator=np.array([locator], np.uint64),
        )
        return value_of(self._known.fetch(Kind.ENTITY, refs)["attributes"][0].as_py())

    def _position(self, type_name: str) -> int:
        section = self._rows.index.sections.get(type_name)
        return int(find_rows(section, self._hi, self._lo)[0]) if section is not None else -1

    def _locator(self, type_name: str) -> int:
        return int(self._known.view.find(Kind.ENTITY, type_name, self._hi, self._lo)[0])


def _view_of(platform: Platform, document: PlanDocument) -> SnapshotView:
    """Open the snapshot that the plan was made against; raises ``ObjectMissing`` if it is gone."""

    def open_index(batch: BatchId, kind: Kind) -> IndexFile:
        return platform.batches.rows(platform.control.get_batch(batch).manifest, kind).index

    return SnapshotView.open(platform.objects, _snapshot_of(platform, document), open_index)


def _snapshot_of(platform: Platform, document: PlanDocument) -> SnapshotManifest | None:
    if not document.snapshot_version:
        return None
    folder = snapshot_prefix(document.source_id, document.target_id)
    prefix = f"{folder}{document.snapshot_version:010d}-"
    for info in platform.objects.list(prefix):
        if info.key.endswith(".json"):
            manifest = read_snapshot_manifest(platform.objects.get(info.key), where=info.key)
            if manifest.digest == document.snapshot_digest:
                return manifest
    raise ObjectMissing(
        f"snapshot {document.snapshot_version} that the plan was made against is not under {folder} any more: "
        "`penstock plan show` still lists its operations"
    )


@dataclass(kw_only=True)
class _Touching:
    """The operations of a plan on one entity, by type, and on what begins or ends at it."""

    entities: dict[str, PlannedOperation] = field(default_factory=dict)
    relationships: list[PlannedOperation] = field(default_factory=list)
    """The first ``MAX_RELATIONSHIPS``: an entity may have a million."""
    relationships_in_all: int = 0

    def add(self, chunk: pa.Table, key: str) -> None:
        """Take what touches the key out of one chunk."""
        is_entity = pc.equal(chunk["kind"], Kind.ENTITY.value)
        begins, ends = (
            pc.equal(chunk["key"], key),
            pc.fill_null(pc.equal(chunk["to_key"], key), False),
        )
        for operation in planned_operations(chunk.filter(pc.and_(is_entity, begins))):
            self.entities[operation.type_name] = operation
        edges = chunk.filter(pc.and_(pc.invert(is_entity), pc.or_(begins, ends)))
        self.relationships_in_all += len(edges)
        room = MAX_RELATIONSHIPS - len(self.relationships)
        self.relationships += planned_operations(edges.slice(0, room))


def _operations_at(platform: Platform, plan: StoredPlan, key: str) -> _Touching:
    found = _Touching()
    for chunk in plan_chunks(platform.objects, plan, columns=OPERATION_COLUMNS):
        found.add(chunk, key)
    return found
