"""What workers do with the tasks that they have: keep them, and report what came of them."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import ServicesOf, WorkerCaller
from control_plane.service.routes.asking import BATCH, batch_of
from control_plane.web.bodies import Body
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Moment
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.strict import Flag, Whole
from penstock.use_cases import reporting, work
from penstock.workflow.records import Task, Trouble

router = APIRouter(tags=["Workers"], route_class=StrictRoute)
TaskId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", examples=["0" * 32])]


class Holding(Body):
    """Who has a task."""

    worker_id: Annotated[str, Field(min_length=1, max_length=255)]
    fencing_token: Whole = Field(ge=0, le=2**53, description="As it was given.")


class Completion(Holding):
    """A task that is done."""

    batch_id: Annotated[str, Field(pattern=BATCH)] | None = Field(
        default=None, description="Of the batch that was landed, if one was."
    )
    result: dict[str, Any] = Field(
        default_factory=dict, max_length=100, description="For the next step: counts and places."
    )


class Failure(Holding):
    """A task that failed."""

    code: Annotated[str, Field(min_length=1, max_length=255)]
    message: Annotated[str, Field(max_length=2000)]
    retryable: Flag = Field(default=True, description="Whether trying it again may help.")


class RenewalDocument(Document):
    """A lease that was renewed."""

    lease_expires_at: Moment
    stop: bool = Field(description="Its workflow was cancelled: end, and report a failure.")


class ReportedDocument(Document):
    """A task after what its worker reported."""

    task_id: str
    workflow_id: str
    source_id: str
    step: str
    status: str
    attempt: int
    due_at: Moment = Field(description="If it is ready again: not before.")
    batch_id: str | None


@router.put(
    "/tasks/{task_id}/renew",
    response_model=RenewalDocument,
    responses=problems(404, 409, 413, 422),
)
def renew(task_id: TaskId, body: Holding, services: ServicesOf, caller: WorkerCaller) -> Response:
    """Keep a task for another lease. The first time says that it has begun."""
    renewed = work.renew(
        services.workshop,
        task_id,
        worker_id=body.worker_id,
        fencing_token=body.fencing_token,
        tenant=caller.only_tenant,
    )
    return json_response(plain(renewed))


@router.post(
    "/tasks/{task_id}/complete",
    response_model=ReportedDocument,
    responses={200: {"description": "It was taken."}, **problems(404, 409, 413, 422)},
)
async def complete(
    task_id: TaskId, body: Completion, services: ServicesOf, caller: WorkerCaller
) -> Response:
    """Report a task as done. Reporting it twice changes nothing."""
    done = await services.reports.ask(
        reporting.Ended(
            holder=_holder(task_id, body),
            tenant=caller.only_tenant,
            batch_id=None if body.batch_id is None else batch_of(body.batch_id),
            result=body.result,
        )
    )
    services.room.notice()
    return json_response(_task(done))


@router.post(
    "/tasks/{task_id}/fail",
    response_model=ReportedDocument,
    responses={200: {"description": "It was taken."}, **problems(404, 409, 413, 422)},
)
async def fail(
    task_id: TaskId, body: Failure, services: ServicesOf, caller: WorkerCaller
) -> Response:
    """Report a task as failed; it is tried again later if that may help and tries are left."""
    failed = await services.reports.ask(
        reporting.Ended(
            holder=_holder(task_id, body),
            tenant=caller.only_tenant,
            trouble=Trouble(code=body.code, message=body.message),
            retryable=body.retryable,
        )
    )
    return json_response(_task(failed))


def _holder(task_id: str, body: Holding) -> reporting.Holder:
    return reporting.Holder(
        task_id=task_id, worker_id=body.worker_id, fencing_token=body.fencing_token
    )


def _task(task: Task) -> dict[str, Any]:
    known = plain(task)
    return {name: known[name] for name in ReportedDocument.model_fields}
