"""Workflows over HTTP: made with an idempotency key, listed, paused, resumed, cancelled, retried and rerun."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import Operator, ServicesOf, Viewer, signed
from control_plane.service.routes.asking import MOMENT
from control_plane.service.services import Services
from control_plane.web.bodies import ReasonField, Why
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json, Moment
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.access.tokens import EVERY_TENANT, Principal
from penstock.errors import InvalidIdentifier, NotFound
from penstock.identity import ids
from penstock.identity.ids import TenantId
from penstock.identity.trace import read_trace_parent
from penstock.ports.workflows import Place, WorkflowFilter
from penstock.use_cases.coordination import Coordination
from penstock.use_cases.workflow_queries import (
    WorkflowOverview,
    own_workflow,
    workflow_overview,
    workflow_overviews,
)
from penstock.use_cases.workflows import (
    cancel_workflow,
    create_workflow,
    pause_workflow,
    rerun_workflow,
    resume_workflow,
    retry_workflow,
)
from penstock.workflow.records import Task, Trouble, Turn, Workflow
from penstock.workflow.spec import WorkflowSpec
from penstock.workflow.status import (
    Step,
    TaskStatus,
    TurnStatus,
    WorkflowKind,
    WorkflowMove,
    WorkflowStatus,
)
from resources.wiring import open_coordination

router = APIRouter(tags=["Workflows"], route_class=StrictRoute)
CREATED = 201
MOST = 500
_HEX = "^[0-9a-f]{32}$"
WorkflowId = Annotated[str, Path(pattern=_HEX, examples=["0123456789abcdef0123456789abcdef"])]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="Asked for again with the same key, nothing is made anew.",
    ),
]
TraceParent = Annotated[
    str | None,
    Header(
        alias="traceparent",
        description="W3C trace context that the first turn goes on in, if it begins at once; anything else is dropped.",
    ),
]
Limit = Annotated[int, Query(ge=1, le=MOST)]
Slug = Annotated[str, Query(pattern=rf"^{ids.SLUG.pattern}$")]


class NewWorkflow(WorkflowSpec):
    """A workflow to make."""

    tenant: Annotated[str, Field(pattern=rf"^{ids.SLUG.pattern}$")] | None = Field(
        default=None, description="Of a caller who runs the platform: whose it is to be."
    )
    reason: ReasonField = ""

    def spec(self) -> WorkflowSpec:
        """Return what is asked for."""
        return WorkflowSpec.model_validate(
            self.model_dump(exclude={"tenant", "reason"}, exclude_unset=True)
        )


class Rerun(Why):
    """What is done again."""

    task_id: Annotated[
        str, Field(pattern=_HEX, description="This task, and those of its source that follow it.")
    ]


class TroubleDocument(Document):
    """What went wrong."""

    code: str
    message: str


class WorkflowDocument(Document):
    """One workflow, with how its last turn stands."""

    workflow_id: str
    tenant: str
    name: str
    kind: WorkflowKind
    status: WorkflowStatus
    can: list[WorkflowMove] = Field(description="What may be asked of it now.")
    spec: WorkflowSpec
    created_at: Moment
    created_by: str
    updated_at: Moment
    ended_at: Moment | None
    cancelled_by: str | None
    turns: int = Field(description="How many were begun.")
    next_due_at: Moment | None = Field(description="Of a scheduled one: when its next turn begins.")
    queued_triggers: int = Field(description="What fired while it could not begin a turn.")
    dropped_triggers: int
    trouble: TroubleDocument | None
    tasks: dict[TaskStatus, int] = Field(description="How many of its last turn stand where.")


class TurnDocument(Document):
    """One time through a workflow."""

    turn_id: str
    number: int
    status: TurnStatus
    trigger_id: str
    event_type: str | None = Field(description="Of the event that began it, if one did.")
    subject: str | None
    trace_parent: str | None = Field(
        description="W3C trace context that it belongs to, if what began it came with one."
    )
    begun_at: Moment
    deadline_at: Moment | None
    ended_at: Moment | None
    trouble: TroubleDocument | None


class WorkflowDetailsDocument(WorkflowDocument):
    """One workflow, with its last turns."""

    last_turns: list[TurnDocument] = Field(description="Newest first.")


class WorkflowPage(Document):
    """Workflows, newest first."""

    items: list[WorkflowDocument]
    next: str | None = Field(description="What `after` takes for the next page; none on the last.")


class TaskDocument(Document):
    """One step of a workflow's last turn for one source."""

    task_id: str
    turn_id: str
    source_id: str
    step: Step
    status: TaskStatus
    capability: str
    attempt: int
    failures: int
    worker_id: str | None
    run_id: str | None = Field(description="The Dagster run that has it, or had it last.")
    batch_id: str | None
    lease_expires_at: Moment | None
    due_at: Moment
    deadline_at: Moment | None
    moment: Moment | None = Field(description="Source timestamp of what is collected.")
    ready_at: Moment | None
    assigned_at: Moment | None
    started_at: Moment | None
    ended_at: Moment | None
    compensation: str | None
    trouble: TroubleDocument | None
    result: Json


class TaskPage(Document):
    """Tasks, by source and step."""

    items: list[TaskDocument]
    next: str | None


@router.post(
    "/workflows",
    status_code=CREATED,
    response_model=WorkflowDocument,
    responses={
        200: {"description": "It was made before, with the same key.", "model": WorkflowDocument},
        201: {"description": "It is made; one that does not repeat has begun."},
        **problems(404, 409, 413, 422),
    },
)
def make_workflow(
    body: NewWorkflow,
    services: ServicesOf,
    caller: Operator,
    key: Key = None,
    traceparent: TraceParent = None,
) -> Response:
    """Make a workflow over sources."""
    co = open_coordination(services.platform)
    made = create_workflow(
        co,
        body.spec(),
        tenant=_tenant(caller, body.tenant),
        by=signed(caller, body.reason),
        idempotency_key=key,
        trace_parent=read_trace_parent(traceparent),
    )
    document = _document(workflow_overview(co.workflows, made.workflow))
    place = {"Location": f"/workflows/{made.workflow.workflow_id}"}
    return json_response(document, status=CREATED if made.is_new else 200, headers=place)


@router.get("/workflows", response_model=WorkflowPage, responses=problems(422))
def list_workflows(
    services: ServicesOf,
    caller: Viewer,
    status: Annotated[list[WorkflowStatus] | None, Query()] = None,
    kind: Annotated[list[WorkflowKind] | None, Query()] = None,
    source: Slug | None = None,
    tenant: Slug | None = None,
    after: Annotated[str | None, Query(pattern=rf"^{MOMENT}[.][0-9a-f]{{32}}$")] = None,
    limit: Limit = 100,
) -> Response:
    """List workflows, newest first. A page goes on where the last ended, whatever was made meanwhile."""
    wanted = WorkflowFilter(
        tenant_id=None if tenant is None else ids.tenant_id(tenant),
        statuses=status or (),
        kinds=kind or (),
        source_id=None if source is None else ids.source_id(source),
    )
    mine = caller.only_tenant
    if mine is not None:
        if tenant is not None and tenant != mine:
            return json_response({"items": [], "next": None})
        wanted = WorkflowFilter(
            tenant_id=mine,
            statuses=wanted.statuses,
            kinds=wanted.kinds,
            source_id=wanted.source_id,
        )
    co = open_coordination(services.platform)
    place = None if after is None else _place(after)
    found = workflow_overviews(co.workflows, wanted, limit=limit + 1, after=place)
    return json_response(
        {
            "items": [_document(each) for each in found[:limit]],
            "next": _place_text(found[limit - 1].workflow) if len(found) > limit else None,
        }
    )


@router.get(
    "/workflows/{workflow_id}", response_model=WorkflowDetailsDocument, responses=problems(404)
)
def show_workflow(workflow_id: WorkflowId, services: ServicesOf, caller: Viewer) -> Response:
    """Show one workflow, with its last turns."""
    co, workflow = _own(services, caller, workflow_id)
    turns = co.workflows.list_turns(workflow_id, limit=20)
    document = _document(workflow_overview(co.workflows, workflow))
    return json_response({**document, "last_turns": [_turn_document(turn) for turn in turns]})


@router.get("/workflows/{workflow_id}/tasks", response_model=TaskPage, responses=problems(404))
def list_workflow_tasks(
    workflow_id: WorkflowId,
    services: ServicesOf,
    caller: Viewer,
    status: Annotated[list[TaskStatus] | None, Query()] = None,
    turn: Annotated[int | None, Query(ge=1, le=2_000_000_000)] = None,
    after: Annotated[str | None, Query(pattern=rf"^{ids.SLUG.pattern}[.][0-9]{{1,4}}$")] = None,
    limit: Limit = 100,
) -> Response:
    """List the tasks of a workflow's last turn, or of another, by source and step."""
    co, _ = _own(services, caller, workflow_id)
    found = co.workflows.list_tasks(
        workflow_id,
        turn_id=None if turn is None else co.workflows.get_turn(workflow_id, turn).turn_id,
        statuses=status or (),
        limit=limit + 1,
        after=None if after is None else _task_place(after),
    )
    more = len(found) > limit
    last = found[limit - 1] if more else None
    return json_response(
        {
            "items": [_task_document(task) for task in found[:limit]],
            "next": f"{last.source_id}.{last.position}" if last else None,
        }
    )


_ACTED = {200: {"description": "It is done."}, **problems(404, 409, 413)}


@router.put("/workflows/{workflow_id}/pause", response_model=WorkflowDocument, responses=_ACTED)
def pause_one_workflow(
    workflow_id: WorkflowId, services: ServicesOf, caller: Operator, body: Why | None = None
) -> Response:
    """Give out nothing more of a workflow; what was given out, ends."""
    co, _ = _own(services, caller, workflow_id)
    return _now(co, pause_workflow(co, workflow_id, by=signed(caller, _why(body))))


@router.put("/workflows/{workflow_id}/resume", response_model=WorkflowDocument, responses=_ACTED)
def resume_one_workflow(
    workflow_id: WorkflowId, services: ServicesOf, caller: Operator, body: Why | None = None
) -> Response:
    """Let a paused workflow go on."""
    co, _ = _own(services, caller, workflow_id)
    return _now(co, resume_workflow(co, workflow_id, by=signed(caller, _why(body))))


@router.delete("/workflows/{workflow_id}", response_model=WorkflowDocument, responses=_ACTED)
def cancel_one_workflow(
    workflow_id: WorkflowId,
    services: ServicesOf,
    caller: Operator,
    reason: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """Begin nothing more of a workflow, undo in reverse order what declares how, and end it."""
    co, _ = _own(services, caller, workflow_id)
    return _now(co, cancel_workflow(co, workflow_id, by=signed(caller, reason)))


@router.post("/workflows/{workflow_id}/retry", response_model=WorkflowDocument, responses=_ACTED)
def retry_one_workflow(
    workflow_id: WorkflowId, services: ServicesOf, caller: Operator, body: Why | None = None
) -> Response:
    """Do again what failed in a workflow's last turn, and what was not done because of it."""
    co, _ = _own(services, caller, workflow_id)
    return _now(co, retry_workflow(co, workflow_id, by=signed(caller, _why(body))))


@router.post("/workflows/{workflow_id}/rerun", response_model=WorkflowDocument, responses=_ACTED)
def rerun_one_workflow(
    workflow_id: WorkflowId, body: Rerun, services: ServicesOf, caller: Operator
) -> Response:
    """Do a task of a workflow's last turn again, and those of its source that follow it."""
    co, _ = _own(services, caller, workflow_id)
    by = signed(caller, body.reason)
    return _now(co, rerun_workflow(co, workflow_id, body.task_id, by=by))


def _tenant(caller: Principal, asked: str | None) -> TenantId:
    wanted = asked or caller.tenant_id
    if wanted == EVERY_TENANT:
        raise InvalidIdentifier(
            "a workflow belongs to one tenant, and this token to none: name the `tenant`"
        )
    tenant = ids.tenant_id(wanted)
    if not caller.sees(tenant):
        raise NotFound(f"there is no tenant {wanted!r}")
    return tenant


def _own(services: Services, caller: Principal, workflow_id: str) -> tuple[Coordination, Workflow]:
    co = open_coordination(services.platform)
    return co, own_workflow(co.workflows, workflow_id, caller.only_tenant)


def _why(body: Why | None) -> str:
    return body.reason if body else ""


def _now(co: Coordination, workflow: Workflow) -> Response:
    return json_response(_document(workflow_overview(co.workflows, workflow)))


def _place_text(workflow: Workflow) -> str:
    return f"{ids.timestamp_text(workflow.created_at)}.{workflow.workflow_id}"


def _place(text: str) -> Place:
    moment, _, workflow_id = text.rpartition(".")
    return Place(at=ids.timestamp_from_text(moment), id=workflow_id)


def _task_place(text: str) -> tuple[str, int]:
    source, _, position = text.rpartition(".")
    return ids.source_id(source), int(position)


def _document(each: WorkflowOverview) -> Json:
    workflow = each.workflow
    return {
        "workflow_id": workflow.workflow_id,
        "tenant": workflow.tenant_id,
        "name": workflow.spec.name,
        "kind": workflow.kind,
        "status": workflow.status,
        "can": list(each.can),
        "spec": workflow.spec.model_dump(mode="json"),
        "created_at": _moment(workflow.created_at),
        "created_by": workflow.created_by,
        "updated_at": _moment(workflow.updated_at),
        "ended_at": _moment(workflow.ended_at),
        "cancelled_by": workflow.cancelled_by,
        "turns": workflow.turns,
        "next_due_at": _moment(workflow.next_due_at),
        "queued_triggers": len(workflow.queued_triggers),
        "dropped_triggers": workflow.dropped_triggers,
        "trouble": _trouble(workflow.trouble),
        "tasks": {str(status): count for status, count in sorted(each.tasks.items())},
    }


def _turn_document(turn: Turn) -> Json:
    return {
        "turn_id": turn.turn_id,
        "number": turn.number,
        "status": turn.status,
        "trigger_id": turn.trigger.trigger_id,
        "event_type": turn.trigger.event_type,
        "subject": turn.trigger.subject,
        "trace_parent": turn.trace_parent,
        "begun_at": _moment(turn.begun_at),
        "deadline_at": _moment(turn.deadline_at),
        "ended_at": _moment(turn.ended_at),
        "trouble": _trouble(turn.trouble),
    }


def _task_document(task: Task) -> Json:
    known: Json = plain(task)
    return {name: known[name] for name in TaskDocument.model_fields}


def _trouble(trouble: Trouble | None) -> Json | None:
    return None if trouble is None else {"code": trouble.code, "message": trouble.message}


def _moment(moment: datetime | None) -> str | None:
    text: str | None = plain(moment)
    return text
