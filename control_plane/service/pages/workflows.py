"""Workflows and workers: how they stand, and what may be asked of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.pages.acting import Proof, Reason, acted
from control_plane.service.pages.showing import shown
from control_plane.service.services import Services
from penstock.access.tokens import Principal
from penstock.errors import NotFound, PenstockError
from penstock.ports.workflows import WorkflowFilter
from penstock.use_cases import workflows as asked_of
from penstock.use_cases.acts import By
from penstock.use_cases.work import drain, worker_overviews
from penstock.use_cases.workflow_queries import (
    own_workflow,
    workflow_details,
    workflow_overviews,
)
from penstock.workflow.status import WorkflowStatus

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)
_SHOWN = 100
_ACTS = {
    "pause": (
        asked_of.pause_workflow,
        "Paused: nothing more is given out; what was given out ends",
    ),
    "resume": (asked_of.resume_workflow, "Resumed: it goes on"),
    "cancel": (asked_of.cancel_workflow, "Cancelled: nothing more of it is begun"),
    "retry": (asked_of.retry_workflow, "What failed is done again"),
}


@router.get("/workflows")
def workflows(request: Request, services: ServicesOf, status: str = "") -> Response:
    """Show workflows, newest first."""
    return shown(request, "Workflows", lambda principal: _workflows(services, principal, status))


@router.get("/workflows/{workflow}")
def one_workflow(request: Request, workflow: str, services: ServicesOf) -> Response:
    """Show a workflow with its turns and tasks."""
    return shown(request, "Workflows", lambda principal: _workflow(services, principal, workflow))


@router.post("/workflows/{workflow}/{act}")
def act_on_workflow(
    request: Request,
    workflow: str,
    act: str,
    services: ServicesOf,
    csrf: Proof = "",
    reason: Reason = "",
) -> Response:
    """Pause, resume, cancel or retry a workflow."""
    return acted(
        request,
        "Workflows",
        lambda principal, by: _act(services, principal, workflow, act, by),
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/workflows/{workflow}",
        again=lambda principal: _workflow(services, principal, workflow),
    )


@router.get("/workers")
def workers(request: Request, services: ServicesOf) -> Response:
    """Show workers with what they have in hand."""
    return shown(request, "Workers", lambda principal: _workers(services, principal))


@router.post("/workers/{worker}/drain")
def drain_worker(
    request: Request, worker: str, services: ServicesOf, csrf: Proof = "", reason: Reason = ""
) -> Response:
    """Give a worker nothing more."""

    def act(principal: Principal, by: By) -> str:
        by.why("drain a worker")
        drain(services.workshop, worker, tenant=principal.only_tenant, by=by)
        return f"Worker {worker} is given nothing more; what it has, it ends"

    return acted(
        request,
        "Workers",
        act,
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/workers",
        again=lambda principal: _workers(services, principal),
        typed={"of": worker},
    )


def _workflows(services: Services, principal: Principal, status: str) -> tuple[str, dict[str, Any]]:
    if status and status not in list(WorkflowStatus):
        raise PenstockError(f"there is no status {status!r}")
    wanted = WorkflowFilter(
        tenant_id=principal.only_tenant, statuses=[WorkflowStatus(status)] if status else []
    )
    store = services.coordination.workflows
    return "workflows.html", {
        "found": workflow_overviews(store, wanted, limit=_SHOWN),
        "asked": status,
        "statuses": list(WorkflowStatus),
    }


def _workflow(
    services: Services, principal: Principal, workflow: str
) -> tuple[str, dict[str, Any]]:
    store = services.coordination.workflows
    found = own_workflow(store, workflow, principal.only_tenant)
    details = workflow_details(store, found)
    return "workflow.html", {
        "details": details,
        "flow": found,
        "acts": [act for act in details.overview.can if act in _ACTS],
        "dagster_url": services.settings.dagster_url,
    }


def _act(services: Services, principal: Principal, workflow: str, act: str, by: By) -> str:
    coordination = services.coordination
    found = own_workflow(coordination.workflows, workflow, principal.only_tenant)
    if act not in _ACTS:
        raise NotFound(f"a workflow cannot be asked to {act!r}")
    do, done = _ACTS[act]
    by.why(f"{act} a workflow")
    do(coordination, found.workflow_id, by=by)
    return done


def _workers(services: Services, principal: Principal) -> tuple[str, dict[str, Any]]:
    found = worker_overviews(services.workshop, tenant=principal.only_tenant, limit=200)
    return "workers.html", {"workers": found, "tenant": principal.only_tenant}
