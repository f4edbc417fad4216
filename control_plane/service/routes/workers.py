"""Workers over HTTP: they register, beat, drain and leave, pull tasks, keep them, and report what came of them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from anyio import to_thread
from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import Operator, ServicesOf, Viewer, WorkerCaller, signed
from control_plane.service.services import Services
from control_plane.web.bodies import Body, ReasonField, Why
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json, Moment
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.ports.work import Grant
from penstock.publish.breaker import BreakerStatus
from penstock.strict import Number, Whole
from penstock.use_cases import work
from penstock.use_cases.work import WorkerOverview
from penstock.workflow.workers import BreakerScope, Worker, WorkerKind, WorkerStatus

router = APIRouter(tags=["Workers"], route_class=StrictRoute)
CREATED, MOST_AT_ONCE, LONGEST_WAIT_S = 201, 100, 30.0
_ID = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,126}$"
WorkerId = Annotated[str, Path(pattern=_ID, examples=["collector-1"])]
TaskId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["0" * 32])]
Capability = Annotated[
    str, Field(pattern=r"^[a-z][a-z0-9_.:-]{0,126}$", examples=["collect", "collect:crm"])
]


class NewWorker(Body):
    """A worker as it registers."""

    worker_id: Annotated[str, Field(pattern=_ID)] | None = Field(
        default=None, description="One is made without it. One that is in use is refused."
    )
    capabilities: list[Capability] = Field(
        min_length=1,
        max_length=100,
        description="`collect`, or `collect:<source>` for one source alone.",
    )
    capacity: Whole = Field(default=1, ge=1, le=1000, description="Tasks at once.")
    details: dict[str, Any] = Field(
        default_factory=dict, max_length=32, description="What it says of itself: host, version."
    )


class Beat(Body):
    """A heartbeat."""

    details: dict[str, Any] | None = Field(default=None, max_length=32)


class Asking(Body):
    """How much a worker asks for, and how long it waits."""

    most: Whole = Field(default=1, ge=1, le=MOST_AT_ONCE)
    wait_s: Number = Field(default=0.0, ge=0, le=LONGEST_WAIT_S)
    ahead: Whole = Field(
        default=0,
        ge=0,
        le=MOST_AT_ONCE,
        description="How many more than its capacity it may have, up to as many again: they wait at the worker, which "
        "begins one the moment that another ends. For tasks that take a second or two.",
    )


class HeldTaskDocument(Document):
    """A task that a worker has."""

    task_id: str
    workflow_id: str
    source_id: str
    step: str
    status: str
    lease_expires_at: Moment


class WorkerDocument(Document):
    """A worker."""

    worker_id: str
    tenant: str = Field(description="Whose tasks it runs; `*` for all tenants.")
    kind: WorkerKind
    capabilities: list[str]
    capacity: int
    status: WorkerStatus
    details: dict[str, Any]
    registered_at: Moment
    heartbeat_at: Moment
    gone_at: Moment | None


class SeenWorkerDocument(WorkerDocument):
    """A worker with what it has."""

    silent_at: Moment = Field(description="When it is given up, unless something is heard of it.")
    breaker: BreakerStatus
    last_error: str | None
    tasks: list[HeldTaskDocument]


class RegisteredDocument(WorkerDocument):
    """A worker that has just registered, and how it is to be heard of."""

    heartbeat_s: float
    renew_s: float
    silent_s: float
    lease_s: float


class WorkerList(Document):
    """Workers by id."""

    items: list[SeenWorkerDocument]


class GrantDocument(Document):
    """A task that was given to a worker."""

    task_id: str
    workflow_id: str
    turn: int
    tenant_id: str
    source_id: str
    step: str
    kind: str
    capability: str
    worker_id: str
    attempt: int
    fencing_token: int
    lease_expires_at: Moment
    moment: Moment | None = Field(description="Source timestamp of what is to be collected.")
    deadline_at: Moment | None
    batch_id: str | None
    trace_parent: str | None = Field(
        description="W3C trace context that the work is to go on below; null if it belongs to no trace."
    )
    given: dict[str, Any] = Field(description="What the step before it reported.")


class GrantList(Document):
    """Tasks that a worker was given; none if there was none in its time."""

    items: list[GrantDocument]


class BreakerDocument(Document):
    """The breaker of a worker or of a source."""

    scope: BreakerScope
    scope_id: str
    status: BreakerStatus
    calls: int
    failures: int
    open_until: Moment | None
    last_error: str | None


class BreakerList(Document):
    """Breakers that have counted anything."""

    items: list[BreakerDocument]


# Workers themselves -----------------------------------------------------------------------------------------


@router.post(
    "/workers",
    status_code=CREATED,
    response_model=RegisteredDocument,
    responses={201: {"description": "It is registered."}, **problems(409, 413, 422)},
)
def register(body: NewWorker, services: ServicesOf, caller: WorkerCaller) -> Response:
    """Register a worker of the caller's tenant."""
    made = work.register_worker(
        services.workshop,
        body.worker_id or uuid4().hex,
        tenant=caller.tenant_id,
        capabilities=body.capabilities,
        capacity=body.capacity,
        details=body.details,
        by=signed(caller),
    )
    policy = services.workshop.policy
    wanted = {
        "heartbeat_s": policy.silent_s / 4,
        "renew_s": policy.lease_s / 3,
        "silent_s": policy.silent_s,
        "lease_s": policy.lease_s,
    }
    return json_response({**_worker(made), **wanted}, status=CREATED)


@router.put(
    "/workers/{worker_id}/heartbeat",
    response_model=WorkerDocument,
    responses=problems(404, 409, 413, 422),
)
def heartbeat(
    worker_id: WorkerId, body: Beat, services: ServicesOf, caller: WorkerCaller
) -> Response:
    """Say that a worker is there. One that is gone registers anew."""
    seen = work.beat(services.workshop, worker_id, tenant=caller.only_tenant, details=body.details)
    return json_response(_worker(seen))


@router.put(
    "/workers/{worker_id}/drain",
    response_model=WorkerDocument,
    responses=problems(404, 409, 413, 422),
)
def drain(worker_id: WorkerId, body: Why, services: ServicesOf, caller: WorkerCaller) -> Response:
    """Have a worker given nothing more; what it has it ends."""
    drained = work.drain(
        services.workshop, worker_id, tenant=caller.only_tenant, by=signed(caller, body.reason)
    )
    services.room.dismiss(worker_id)
    return json_response(_worker(drained))


@router.delete(
    "/workers/{worker_id}",
    response_model=WorkerDocument,
    responses=problems(404, 409, 422),
)
def leave(
    worker_id: WorkerId,
    services: ServicesOf,
    caller: WorkerCaller,
    reason: Annotated[ReasonField, Query()] = "",
) -> Response:
    """Take a worker out; what it still has goes to others."""
    gone = work.leave(
        services.workshop, worker_id, tenant=caller.only_tenant, by=signed(caller, reason)
    )
    services.room.dismiss(worker_id)
    return json_response(_worker(gone))


@router.get("/workers", response_model=WorkerList, responses=problems(422))
def list_workers(
    services: ServicesOf,
    caller: Viewer,
    status: Annotated[WorkerStatus | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List workers, each with what it has."""
    found = work.worker_overviews(
        services.workshop, tenant=caller.only_tenant, status=status, limit=limit
    )
    return json_response({"items": [_seen(services, each) for each in found]})


@router.get("/workers/{worker_id}", response_model=SeenWorkerDocument, responses=problems(404, 422))
def get_worker(worker_id: WorkerId, services: ServicesOf, caller: Viewer) -> Response:
    """Show one worker."""
    found = work.worker_overview(services.workshop, worker_id, tenant=caller.only_tenant)
    return json_response(_seen(services, found))


# Their tasks ------------------------------------------------------------------------------------------------


@router.post(
    "/workers/{worker_id}/claims",
    response_model=GrantList,
    responses=problems(404, 409, 413, 422),
)
async def claim(
    request: Request,
    worker_id: WorkerId,
    body: Asking,
    services: ServicesOf,
    caller: WorkerCaller,
) -> Response:
    """Give a worker tasks as soon as there are any for it, under leases; none after `wait_s`."""
    await to_thread.run_sync(
        partial(work.may_ask, services.workshop, worker_id, tenant=caller.only_tenant)
    )
    granted = await services.room.ask(
        worker_id,
        body.most,
        wait_s=body.wait_s,
        ahead=body.ahead,
        is_gone=request.is_disconnected,
    )
    return json_response({"items": [_grant(each) for each in granted]})


# Breakers ---------------------------------------------------------------------------------------------------


@router.get("/work-breakers", response_model=BreakerList, responses=problems())
def list_breakers(services: ServicesOf, caller: Viewer) -> Response:
    """List the breakers of workers and of sources whose tasks ever ended, as far as the caller may see them."""
    found = work.work_breakers(services.workshop, services.platform, tenant=caller.only_tenant)
    return json_response({"items": [_breaker(services, each) for each in found]})


@router.post(
    "/work-breakers/{scope}/{scope_id}/reset",
    response_model=BreakerDocument,
    responses=problems(404, 409, 413, 422),
)
def reset_breaker(
    scope: BreakerScope,
    scope_id: Annotated[str, Path(max_length=255)],
    body: Why,
    services: ServicesOf,
    caller: Operator,
) -> Response:
    """Close the breaker of a worker or of a source by hand."""
    closed = work.reset_work_breaker(
        services.workshop,
        services.platform,
        scope,
        scope_id,
        tenant=caller.only_tenant,
        by=signed(caller, body.reason),
    )
    return json_response(_breaker(services, closed))


def _worker(each: Worker) -> Json:
    shown: Json = plain(each)
    shown["tenant"] = shown.pop("tenant_id")
    return shown


def _seen(services: Services, each: WorkerOverview) -> Json:
    names = HeldTaskDocument.model_fields
    tasks: list[Json] = [
        {name: value for name, value in plain(task).items() if name in names} for task in each.held
    ]
    return {
        **_worker(each.worker),
        "silent_at": plain(each.silent_at),
        "breaker": str(work.breaker_status(services.workshop, each.breaker)),
        "last_error": each.breaker.last_error if each.breaker else None,
        "tasks": tasks,
    }


def _grant(each: Grant) -> Json:
    shown: Json = plain(each)
    return shown


def _breaker(services: Services, each: Any) -> Json:
    known: Json = plain(each)
    shown = {name: known[name] for name in BreakerDocument.model_fields}
    return {**shown, "status": str(work.breaker_status(services.workshop, each))}
