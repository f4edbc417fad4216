"""What people ask of workflows: create, pause, resume, cancel, retry, rerun.

Each act is signed; it, its entry in the audit log and its events are one transaction. An illegal one is
``IllegalMove``, which names the legal ones, and changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from penstock.batch.source import SourceSpec
from penstock.errors import KeyReused, NotFound
from penstock.identity.ids import TenantId
from penstock.ports.workflows import Decide
from penstock.use_cases.acts import By
from penstock.use_cases.coordination import Coordination
from penstock.workflow import acts, telling
from penstock.workflow.change import Case, Change
from penstock.workflow.records import Trigger, Workflow
from penstock.workflow.spec import WorkflowSpec
from penstock.workflow.status import REPEATING, WorkflowStatus
from penstock.workflow.turns import begun


@dataclass(frozen=True, kw_only=True)
class Created:
    """What came of asking for a workflow."""

    workflow: Workflow
    is_new: bool
    """False where the same was asked for with the same key before."""


def create_workflow(
    co: Coordination,
    spec: WorkflowSpec,
    *,
    tenant: TenantId,
    by: By,
    idempotency_key: str | None = None,
    trace_parent: str | None = None,
) -> Created:
    """Make a workflow; one that does not repeat begins at once, in the trace ``trace_parent`` if there is one.

    With a key that was used before, the workflow that was made with it is returned, and ``KeyReused`` raised where it
    is another. Raises ``NotFound`` for a source that is not declared in the tenant, or where nothing is selected to
    begin with; ``BadSchedule`` for a cron expression that is none.
    """
    digest = _digest(spec)
    there = idempotency_key and co.workflows.with_key(tenant, idempotency_key)
    if there:
        return _same(there, digest)
    change, chosen = _new(co, spec, tenant, by, idempotency_key, digest, trace_parent)
    workflow = change.workflow
    act = by.entry(
        "workflow.create",
        workflow.workflow_id,
        now=workflow.created_at,
        details={"kind": str(workflow.kind), "name": spec.name, "sources": chosen[:100]},
    )
    made = co.workflows.create(change, act=act)
    if made.workflow_id != workflow.workflow_id:
        return _same(made, digest)
    return Created(workflow=made, is_new=True)


def _digest(spec: WorkflowSpec) -> str:
    text = spec.model_dump_json()
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _same(there: Workflow, digest: str) -> Created:
    if there.body_digest != digest:
        raise KeyReused(
            f"the idempotency key {there.idempotency_key!r} was used for workflow {there.workflow_id!r}, which asks "
            "for something else: use another key"
        )
    return Created(workflow=there, is_new=False)


def _new(
    co: Coordination,
    spec: WorkflowSpec,
    tenant: TenantId,
    by: By,
    key: str | None,
    digest: str,
    trace_parent: str | None,
) -> tuple[Change, list[str]]:
    now = co.now()
    chosen = _chosen(co, spec, tenant)
    workflow = Workflow(
        workflow_id=co.new_id(),
        tenant_id=tenant,
        spec=spec,
        status=WorkflowStatus.WAITING,
        idempotency_key=key,
        body_digest=digest,
        created_at=now,
        created_by=by.actor,
        updated_at=now,
        next_due_at=None if spec.cron is None else co.next_due(spec.cron, now),
    )
    sources = [source.source_id for source in chosen]
    told = telling.created(workflow, sources, now)
    # What repeats is not of the trace that it was asked for in: each of its turns has its own cause.
    if spec.kind in REPEATING:
        return Change(workflow=workflow, events=(told,)), list(sources)
    trigger = Trigger(trigger_id="created", at=now, trace_parent=trace_parent)
    begins = begun(Case(workflow=workflow), trigger, chosen, now=now, new_id=co.new_id)
    return replace(begins, events=(told, *begins.events)), list(sources)


def _chosen(co: Coordination, spec: WorkflowSpec, tenant: TenantId) -> Sequence[SourceSpec]:
    chosen = spec.chosen(co.platform.control.list_sources(), tenant)
    missing = sorted(set(spec.sources) - {source.source_id for source in chosen})
    if missing:
        raise NotFound(
            f"no source {', '.join(missing)} is declared in tenant {tenant}: `penstock sources` lists what is"
        )
    if not chosen and spec.kind not in REPEATING:
        raise NotFound(
            f"nothing that is declared in tenant {tenant} is selected: `penstock sources` lists what is declared"
        )
    return chosen


def pause_workflow(co: Coordination, workflow_id: str, *, by: By) -> Workflow:
    """Give out nothing more of a workflow; what was given out, ends."""
    now = co.now()
    return _done(
        co,
        workflow_id,
        "workflow.pause",
        lambda case: acts.paused(case, by=by.actor, reason=by.reason, now=now),
        by,
        now,
    )


def resume_workflow(co: Coordination, workflow_id: str, *, by: By) -> Workflow:
    """Let a paused workflow go on."""
    now = co.now()
    return _done(
        co,
        workflow_id,
        "workflow.resume",
        lambda case: acts.resumed(case, by=by.actor, reason=by.reason, now=now),
        by,
        now,
    )


def cancel_workflow(co: Coordination, workflow_id: str, *, by: By) -> Workflow:
    """Begin nothing more of a workflow, undo what declares how, and end it."""
    now = co.now()
    return _done(
        co,
        workflow_id,
        "workflow.cancel",
        lambda case: acts.cancelled(case, by=by.actor, reason=by.reason, now=now),
        by,
        now,
    )


def retry_workflow(co: Coordination, workflow_id: str, *, by: By) -> Workflow:
    """Do again what failed in a workflow's last turn, and what was not done because of it."""
    now = co.now()
    return _done(
        co, workflow_id, "workflow.retry", lambda case: acts.retried(case, now=now), by, now
    )


def rerun_workflow(co: Coordination, workflow_id: str, task_id: str, *, by: By) -> Workflow:
    """Do again one task of a workflow's last turn, and those of its source that follow."""
    now = co.now()
    return _done(
        co,
        workflow_id,
        "workflow.rerun",
        lambda case: acts.rerun(case, task_id, now=now),
        by,
        now,
        task_id=task_id,
    )


def _done(
    co: Coordination,
    workflow_id: str,
    act: str,
    decide: Decide,
    by: By,
    now: datetime,
    **details: str,
) -> Workflow:
    entry = by.entry(act, workflow_id, now=now, details=details)
    change = co.workflows.change(workflow_id, decide, act=entry)
    assert change is not None, "an act either changes something or is refused"
    return change.workflow
