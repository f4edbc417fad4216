"""Priorities over HTTP: what a changed policy would do to what waits, and why each task stands where it does."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import ServicesOf, Viewer
from control_plane.web.bodies import Body
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.publish.queue import QueuePolicy
from penstock.use_cases import priority, work
from penstock.use_cases.priority import Preview
from penstock.workflow.allotment import Place
from penstock.workflow.priority import WorkflowPolicy

router = APIRouter(tags=["Priority"], route_class=StrictRoute)
MOST = 10_000


class ChangedPolicy(Body):
    """A policy to hold against what waits: of the publish queue, or of tasks."""

    queue_policy: QueuePolicy | None = Field(
        default=None, description="As `PENSTOCK_QUEUE_POLICY` has it."
    )
    workflow_policy: WorkflowPolicy | None = Field(
        default=None, description="As `PENSTOCK_WORKFLOW_POLICY` has it."
    )


class StandingDocument(Document):
    """One place, and how it came about."""

    place: int
    points: float
    parts: dict[str, float] = Field(description="By name; they add up to the points.")
    waits_for: str | None


class ShiftDocument(Document):
    """What waits, where it stands, and where it would stand."""

    subject: str
    tenant_id: str
    source_id: str
    about: str
    before: StandingDocument
    after: StandingDocument
    forward: int = Field(description="Places that it would gain.")


class PreviewDocument(Document):
    """The effect of a changed policy on one queue, in the new order."""

    moved: int
    items: list[ShiftDocument]


class PreviewsDocument(Document):
    """The effect of what was sent; None where nothing was sent for a queue."""

    queue: PreviewDocument | None
    tasks: PreviewDocument | None


class TaskPlaceDocument(Document):
    """A task that is ready, and its place."""

    place: int
    task_id: str
    workflow_id: str
    tenant_id: str
    source_id: str
    capability: str
    points: float
    parts: dict[str, float]
    waits_for: str | None = Field(description="None where a worker that has room can have it.")


class TaskPlaces(Document):
    """Tasks that are ready, in the order of the allotment."""

    items: list[TaskPlaceDocument]


@router.post(
    "/priority/preview",
    response_model=PreviewsDocument,
    responses={200: {"description": "Nothing was changed."}, **problems(413, 422)},
)
def preview(
    body: ChangedPolicy,
    services: ServicesOf,
    caller: Viewer,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 1000,
) -> Response:
    """Show what a changed policy would do to what waits; nothing is changed."""
    queue = tasks = None
    if body.queue_policy is not None:
        queue = priority.preview_queue(
            services.platform, body.queue_policy, tenant=caller.only_tenant
        )
    if body.workflow_policy is not None:
        tasks = priority.preview_tasks(
            services.workshop, body.workflow_policy, tenant=caller.only_tenant
        )
    return json_response({"queue": _preview(queue, limit), "tasks": _preview(tasks, limit)})


@router.get("/priority/tasks", response_model=TaskPlaces, responses=problems(422))
def task_places(
    services: ServicesOf,
    caller: Viewer,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 1000,
) -> Response:
    """List tasks that are ready in the order of the allotment, with the arithmetic and what each waits for."""
    found = work.task_places(services.workshop, tenant=caller.only_tenant)
    return json_response({"items": [_place(each) for each in found[:limit]]})


def _preview(found: Preview | None, limit: int) -> Json | None:
    if found is None:
        return None
    shown: list[dict[str, Any]] = [
        {**plain(shift), "forward": shift.forward} for shift in found.shifts[:limit]
    ]
    return {"moved": found.moved, "items": shown}


def _place(each: Place) -> Json:
    told = priority.standing_of_task(each)
    names = ("task_id", "workflow_id", "tenant_id", "source_id", "capability")
    return {**{name: getattr(each.task, name) for name in names}, **plain(told)}
