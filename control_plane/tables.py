"""What queries answer to a person: tables that fit a terminal of 100 columns.

Ids and keys fold over lines where they must, so that nothing is ever cut: what is shown can be copied into the next
command. Every text comes from outside, so control characters are written out and markup means nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from penstock.batch.manifest import Manifest
from penstock.batch.scope import Completeness
from penstock.identity.ids import split_batch_id
from penstock.plan.ledger import LedgerRow
from penstock.ports.control import DeadLetter, OperationException
from penstock.publish.queue import QueuePlace, QueuePolicy
from penstock.publish.state import Intent, PublishState, PublishStatus
from penstock.use_cases.queries import (
    BatchDetails,
    BatchOverview,
    SourceOverview,
    TargetDetails,
)

PLAIN_WIDTH = 100
"""Columns, where the output is not a terminal."""
_WIDEST_TITLE = 60

_STYLES = {
    PublishStatus.COMPLETE: "green",
    PublishStatus.FAILED: "bold red",
    PublishStatus.RETRYING: "yellow",
    PublishStatus.EXECUTING: "cyan",
    PublishStatus.PLANNING: "cyan",
    PublishStatus.PLAN_COMPLETE: "cyan",
}


def console() -> Console:
    """Return a console on stdout as wide as its terminal; redirected, as wide as ``COLUMNS`` or 100."""
    out = Console(highlight=False)
    if not out.is_terminal and not os.environ.get("COLUMNS"):
        out = Console(width=PLAIN_WIDTH, highlight=False)
    return out


def cell(value: object, style: str = "") -> Text:
    """Return any value as text for a cell: None empty, whole numbers grouped, control characters written out."""
    match value:
        case None:
            text = ""
        case bool() | str():
            text = str(value)
        case int():
            text = f"{value:,}"
        case datetime():
            text = f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        case _:
            text = str(value)
    shown = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    return Text(shown, style=style, overflow="fold")


def table(title: str, *columns: str, numbers: Iterable[str] = ()) -> Table:
    """Return an empty table; the columns in ``numbers`` are set to the right and never broken."""
    made = Table(
        title=cell(title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=(0, 1, 0, 0),
        min_width=min(len(title), _WIDEST_TITLE),
    )
    right = set(numbers)
    for name in columns:
        if name in right:
            made.add_column(name, justify="right", no_wrap=True)
        else:
            made.add_column(name, overflow="fold")
    return made


def facts(*rows: tuple[str, object]) -> Table:
    """Return names with their values, without those that have none."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="dim", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        if value is not None and value != "":
            made.add_row(name, value if isinstance(value, Text) else cell(value))
    return made


def _status(status: PublishStatus) -> Text:
    return cell(status, _STYLES.get(status, ""))


def _statuses(states: Sequence[PublishState]) -> Text:
    shown = [Text.assemble(cell(s.target_id), " ", _status(s.status)) for s in states]
    return Text("\n").join(shown)


# Sources, batches, states -----------------------------------------------------------------------------------


def sources(found: Sequence[SourceOverview]) -> Iterator[RenderableType]:
    """One row per source."""
    if not found:
        yield "no sources are recorded yet: the first run of the code location records them"
        return
    numbers = ("importance", "complexity", "every", "waiting")
    made = table("sources", "source", *numbers, "newest (UTC)", "published", numbers=numbers)
    for each in found:
        spec = each.spec
        newest = split_batch_id(each.newest_batch)[1] if each.newest_batch else None
        made.add_row(
            cell(spec.source_id),
            cell(spec.importance),
            cell(spec.complexity),
            cell(_seconds(spec.cadence_s)),
            cell(each.waiting),
            cell(f"{newest:%Y-%m-%d %H:%M:%S}" if newest else None),
            _statuses(each.newest_states),
        )
    yield made


def _seconds(seconds: int | None) -> str:
    if seconds is None:
        return ""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def batches(found: Sequence[BatchOverview]) -> Iterator[RenderableType]:
    """One row per batch."""
    if not found:
        yield "no batches yet"
        return
    numbers = ("entities", "relationships")
    made = table("batches", "batch", "mode", *numbers, "published", numbers=numbers)
    for each in found:
        manifest = each.record.manifest
        made.add_row(
            cell(manifest.batch_id),
            cell(manifest.mode),
            cell(manifest.entities.rows),
            cell(manifest.relationships.rows),
            _statuses(each.states),
        )
    yield made


def batch(found: BatchDetails) -> Iterator[RenderableType]:
    """One batch: facts, scopes that are not complete, and each target's ledger and exceptions."""
    record, manifest = found.record, found.record.manifest
    yield facts(
        ("batch", manifest.batch_id),
        ("mode", manifest.mode),
        ("tenant", manifest.tenant_id),
        ("landed at", manifest.processing_timestamp),
        ("admitted at", record.admitted_at),
        ("folder", record.s3_path),
        ("entities", manifest.entities.rows),
        ("relationships", manifest.relationships.rows),
        ("scopes", _scopes_in_words(manifest)),
    )
    open_scopes = [s for s in manifest.scopes if s.completeness is not Completeness.COMPLETE]
    if open_scopes:
        made = table("scopes whose absences delete nothing", "type", "under", "is", "reason")
        for scope in open_scopes:
            made.add_row(
                *map(cell, (scope.type_name, scope.key_prefix, scope.completeness, scope.reason))
            )
        yield made
    for target in found.targets:
        yield from _target(target)


def _scopes_in_words(manifest: Manifest) -> str:
    counted = Counter(scope.completeness for scope in manifest.scopes)
    return ", ".join(f"{n} {completeness}" for completeness, n in counted.most_common()) or "none"


def _target(found: TargetDetails) -> Iterator[RenderableType]:
    yield from _state(found.state)
    if found.ledger:
        yield _ledger(found.ledger)
    if found.exceptions:
        yield _exceptions(found.exceptions, found.state.exceptions)


_LEDGER_COLUMNS = (
    ("extracted", "extracted"),
    ("filtered", "filtered"),
    ("inferred", "inferred_deletes"),
    ("created", "created"),
    ("updated", "updated"),
    ("deleted", "deleted"),
    ("same", "unchanged"),
    ("held", "held"),
    ("blocked", "blocked"),
    ("dead", "dead_lettered"),
)


def _ledger(rows: Sequence[LedgerRow]) -> Table:
    rare = ("superseded", "lost")
    columns = (
        *_LEDGER_COLUMNS,
        *((name, name) for name in rare if any(getattr(row, name) for row in rows)),
    )
    names = [name for name, _ in columns]
    made = table("ledger", "type", *names, numbers=names)
    for row in rows:
        numbers = [cell(getattr(row, field) or "") for _, field in columns]
        made.add_row(cell(row.type_name, "" if row.balanced else "bold red"), *numbers)
    return made


def _exceptions(found: Sequence[OperationException], in_all: int) -> Table:
    title = f"planned and not applied: {len(found):,} of {in_all:,}"
    made = table(title, "outcome", "operation", "why")
    for each in found:
        ends = each.key if each.to_key is None else f"{each.key} -> {each.to_key}"
        operation = f"{each.action} {each.type_name} {ends}"
        made.add_row(cell(each.outcome), cell(operation), cell(each.message))
    return made


def states(found: Sequence[PublishState], *, whole: bool) -> Iterator[RenderableType]:
    """One row per publish state, or every field of each with ``whole``."""
    if whole:
        for each in found:
            yield from _state(each)
        return
    if not found:
        yield "no publish states yet"
        return
    numbers = ("created", "updated", "deleted", "not\napplied")
    made = table("publish states", "batch", "published", *numbers, numbers=numbers)
    for each in found:
        m = each.metrics
        made.add_row(
            cell(each.batch_id),
            _statuses([each]),
            cell(m.entities_created + m.relationships_created),
            cell(m.entities_updated + m.relationships_updated),
            cell(m.entities_deleted + m.relationships_deleted),
            cell(each.exceptions),
        )
    yield made


def _state(state: PublishState) -> Iterator[RenderableType]:
    metrics, failure = state.metrics, state.failure_details
    yield facts(
        ("batch", state.batch_id),
        ("target", state.target_id),
        ("status", _status(state.status)),
        ("queued at", state.enqueued_at),
        ("due again at", state.retry_due_at),
        ("boost", state.priority_boost or None),
        ("intent", None if state.intent is Intent.PUBLISH else str(state.intent)),
        ("began", state.publish_start_timestamp),
        ("ended", state.publish_end_timestamp),
        ("entities", _did(metrics, "entities") if _settled(state) else None),
        ("relationships", _did(metrics, "relationships") if _settled(state) else None),
        ("not applied", _not_applied(state) if state.exceptions else None),
        ("executing took", f"{metrics.execution_time_ms:,} ms" if _settled(state) else None),
        ("plan", state.execution_plan_path),
        ("plan digest", state.plan_digest),
        ("snapshot", state.state_snapshot_path),
        ("run", state.workflow_run_id),
        ("failed with", failure and failure.error_code),
        ("in step", failure and failure.failed_operation),
        ("retries", failure and failure.retry_count),
        ("because", failure and cell(failure.error_message, "red")),
    )


def _not_applied(state: PublishState) -> str:
    parts = ("held", "blocked", "rejected")
    of_these = [f"{getattr(state, part):,} {part}" for part in parts if getattr(state, part)]
    return f"{state.exceptions:,}: {', '.join(of_these)}"


def _settled(state: PublishState) -> bool:
    return state.status is PublishStatus.COMPLETE


def _did(metrics: object, kind: str) -> str:
    done = ("created", "updated", "deleted")
    return ", ".join(f"{getattr(metrics, f'{kind}_{each}'):,} {each}" for each in done)


def dead_letters(found: Sequence[DeadLetter]) -> Iterator[RenderableType]:
    """One row per dead letter: its code and time stand below its subject."""
    if not found:
        yield "no dead letters"
        return
    made = table("dead letters", "subject", "what is wrong")
    for each in found:
        subject = Text("\n").join(map(cell, (each.subject, each.code, each.recorded_at)))
        made.add_row(subject, cell(each.message))
    yield made


# The queue --------------------------------------------------------------------------------------------------


def queue(
    found: Sequence[QueuePlace], policy: QueuePolicy | None, *, waiting: int
) -> Iterator[RenderableType]:
    """One row per waiting batch; with a policy, the parts of each score and the formula."""
    if not found:
        yield "nothing waits to be published"
        return
    yield _queue(found) if policy is None else _queue_explained(found, policy)
    if policy is not None:
        yield _formula(policy)
    if len(found) < waiting:
        yield f"the first {len(found):,} of {waiting:,}: --limit shows more"


def _queue(found: Sequence[QueuePlace]) -> Table:
    made = table("queue", "#", "batch", "target", "points", "waits for", numbers=("#", "points"))
    for each in found:
        made.add_row(
            cell(each.place),
            cell(each.state.batch_id),
            cell(each.state.target_id),
            cell(f"{each.score.total:.2f}"),
            cell(each.waits_for),
        )
    return made


def _formula(policy: QueuePolicy) -> str:
    more = ""
    if policy.deadline_weight:
        more += f" + {policy.deadline_weight:g} as a deadline passes"
    if policy.boosts:
        more += f" + the points of {', '.join(rule.name for rule in policy.boosts)}"
    return (
        f"points = {policy.age_weight:g} for each {policy.age_unit_s:g} s waited "
        f"+ {policy.importance_weight:g} x importance - {policy.complexity_weight:g} x complexity "
        f"+ {policy.boost_weight:g} x boost{more};\nwithin a source and target always the oldest first"
    )


def _queue_explained(found: Sequence[QueuePlace], policy: QueuePolicy) -> Table:
    by_rule = ("deadline", "rules") if policy.deadline_weight or policy.boosts else ()
    numbers = ("#", "age", "importance", "complexity", "boost", *by_rule, "points")
    made = table("queue", "#", "batch", *numbers[1:], numbers=numbers)
    for each in found:
        waits = f"\nwaits for {each.waits_for}" if each.waits_for else ""
        points = each.score
        parts = [points.age, points.importance, points.complexity, points.boost]
        parts += [points.deadline, points.ruled] if by_rule else []
        made.add_row(
            cell(each.place),
            Text.assemble(
                cell(f"{each.state.batch_id} -> {each.state.target_id}"), cell(waits, "dim")
            ),
            *(cell(f"{part:+.2f}") for part in parts),
            cell(f"{each.score.total:.2f}"),
        )
    return made
