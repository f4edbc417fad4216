"""Plans as tables: what one does, what became of fields that people changed, and why it does it to one entity."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from control_plane.answers import plain
from control_plane.tables import cell, facts, table
from penstock.plan.document import PlanDocument
from penstock.plan.merge import MergedRow
from penstock.use_cases.explain_entity import EntityExplanation
from penstock.use_cases.merges import MergeOverview
from penstock.use_cases.queries import OperationCount, PlannedOperation, PlanOverview


def plan(found: PlanOverview) -> Iterator[RenderableType]:
    """One plan: facts, guards, counts, and the first operations."""
    document = found.document
    yield facts(
        ("batch", document.batch_id),
        ("target", document.target_id),
        ("against", _snapshot(document)),
        ("plan", found.path),
        ("digest", found.digest),
        ("operations", document.operations),
        ("waves", len({wave.wave for wave in document.waves})),
    )
    guards = table("guards", "guard", "verdict", "says")
    for guard in document.guards:
        verdict = cell("passed", "green") if guard.passed else cell("held", "bold yellow")
        guards.add_row(cell(guard.guard), verdict, cell(guard.message))
    yield guards
    if found.counts:
        yield _counts(found.counts)
    if found.operations:
        title = f"operations: the first {len(found.operations):,} of {document.operations:,}"
        yield _operations(title, found.operations)
    yield from _merges(found.merges)


def _merges(found: MergeOverview) -> Iterator[RenderableType]:
    """What is decided about fields that somebody changed in the target."""
    if found.trouble is not None:
        yield f"what people changed in the target cannot be told: {found.trouble}"
    if found.rows:
        title = f"changed in the target: the first {len(found.rows):,} of {found.operations:,}"
        made = table(title, "operation", "of", "decided by field")
        for row in found.rows:
            ends = row.key if row.to_key is None else f"{row.key} -> {row.to_key}"
            made.add_row(cell(f"{row.action} {row.type_name}"), cell(ends), cell(decided(row)))
        yield made
    yield from (f"not executed: {why}" for why in found.refused)


def decided(row: MergedRow) -> str:
    """Return what becomes of each field that somebody changed in the target."""
    said = [
        f"{name} kept, against the source" if name in row.conflicts else f"{name} kept"
        for name in row.kept
    ]
    return ", ".join([*said, *(f"{name} restored" for name in row.restored)])


def _snapshot(document: PlanDocument) -> str:
    if not document.snapshot_version:
        return "nothing: its first batch at this target"
    return f"snapshot {document.snapshot_version} ({document.snapshot_digest})"


_COUNT_COLUMNS = ("create", "update", "delete", "refused", "held", "blocked")


def _counts(counts: Sequence[OperationCount]) -> Table:
    made = table("by type", "kind", "type", *_COUNT_COLUMNS, numbers=_COUNT_COLUMNS)
    by_type: dict[tuple[str, str], Counter[str]] = {}
    for each in counts:
        column = each.action if each.verdict == "planned" else each.verdict
        by_type.setdefault((each.kind, each.type_name), Counter())[column] += each.operations
    for (kind, type_name), counted in sorted(by_type.items()):
        numbers = (cell(counted[name] or "") for name in _COUNT_COLUMNS)
        made.add_row(cell(kind), cell(type_name), *numbers)
    return made


_ACTION_STYLES = {"create": "green", "update": "yellow", "delete": "red"}


def _operations(title: str, operations: Sequence[PlannedOperation]) -> Table:
    made = table(title, "wave", "operation", "of", "what changes", numbers=("wave",))
    for each in operations:
        ends = each.key if each.to_key is None else f"{each.key} -> {each.to_key}"
        note = ", ".join(each.changed)
        if each.reason is not None:
            note = f"{each.verdict}: {each.reason}"
        made.add_row(
            cell(each.wave),
            cell(f"{each.action} {each.type_name}", _ACTION_STYLES.get(each.action, "")),
            cell(ends),
            cell(note),
        )
    return made


def explanations(found: Sequence[EntityExplanation]) -> Iterator[RenderableType]:
    """One explanation after the other."""
    for each in found:
        yield from _explanation(each)


def _explanation(found: EntityExplanation) -> Iterator[RenderableType]:
    exception = found.exception
    told = exception and f"{exception.outcome} ({exception.code}): {exception.message}"
    yield facts(
        (found.entity_type, cell(found.entity_key, "bold")),
        ("batch", found.batch_id),
        ("target", found.target_id),
        ("scope", found.completeness),
        ("why", found.why),
        ("operation", found.operation and found.operation.operation_id),
        ("not applied", told),
        ("changed in the target", found.merged and decided(found.merged)),
    )
    if found.changes:
        made = table("what changed", "attribute", "how", "from", "to")
        for change in found.changes:
            before = "" if change.change == "added" else _shown(change.before)
            after = "" if change.change == "removed" else _shown(change.after)
            made.add_row(
                cell(change.path), cell(change.change), cell(before, "red"), cell(after, "green")
            )
        yield made
    elif (found.before is None) != (found.after is None):
        yield _attributes(found)
    if found.relationships:
        title = f"its relationships: {len(found.relationships):,} of {found.relationship_operations:,} operations"
        yield _operations(title, found.relationships)


def _attributes(found: EntityExplanation) -> Table:
    said = found.after if found.after is not None else found.before
    title = "attributes in the batch" if found.after is not None else "attributes that are known"
    made = table(title, "attribute", "value")
    for name, value in sorted((said or {}).items()):
        made.add_row(cell(name), cell(_shown(value)))
    return made


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(plain(value), ensure_ascii=False)
