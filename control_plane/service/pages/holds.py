"""Holds: what guards keep back, and the decision about it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.pages.acting import Proof, Reason, acted
from control_plane.service.pages.showing import shown
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.services import Services
from penstock.access.tokens import Principal
from penstock.errors import NotFound
from penstock.identity import ids
from penstock.ports.approvals import ApprovalStatus, Decision
from penstock.publish.state import PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.dashboard import MOST_SHOWN
from penstock.use_cases.dashboard_scope import own_state
from penstock.use_cases.holds import approve_hold, reject_hold, show_hold
from penstock.use_cases.queries import batch_id_of

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)
Digest = Annotated[str, Form()]


@router.get("/holds")
def holds(request: Request, services: ServicesOf) -> Response:
    """Show what waits for a decision."""
    return shown(request, "Holds", lambda principal: _holds(services, principal))


@router.get("/holds/{batch}/{target}")
def one_hold(request: Request, batch: str, target: str, services: ServicesOf) -> Response:
    """Show what is held of a batch, and ask for a decision."""
    return shown(request, "Holds", lambda principal: _hold(services, principal, batch, target))


@router.post("/holds/{batch}/{target}/{decision}")
def decide(
    request: Request,
    batch: str,
    target: str,
    decision: str,
    services: ServicesOf,
    csrf: Proof = "",
    reason: Reason = "",
    plan_digest: Digest = "",
) -> Response:
    """Approve or reject what is held: of the plan that the form was about, and of no other."""
    return acted(
        request,
        "Holds",
        lambda principal, by: _decide(
            services, principal, batch, target, decision, plan_digest, by
        ),
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/holds",
        again=lambda principal: _hold(services, principal, batch, target),
    )


def _holds(services: Services, principal: Principal) -> tuple[str, dict[str, Any]]:
    found = dashboard_of(services).views.live_holds(principal.only_tenant, limit=MOST_SHOWN)
    return "holds.html", {"states": found}


def _hold(
    services: Services, principal: Principal, batch: str, target: str
) -> tuple[str, dict[str, Any]]:
    tenant = principal.only_tenant
    state = own_state(dashboard_of(services), batch_id_of(batch), ids.target_id(target), tenant)
    held = show_hold(services.platform, state)
    decided = {decision.status for decision in held.decisions}
    closed = held.superseded_by or decided & {ApprovalStatus.ACTIVE, ApprovalStatus.REJECTED}
    return "hold.html", {
        "held": held,
        "state": state,
        "is_open": not closed and state.status is PublishStatus.COMPLETE,
    }


def _decide(
    services: Services,
    principal: Principal,
    batch: str,
    target: str,
    decision: str,
    plan_digest: str,
    by: By,
) -> str:
    name, to = batch_id_of(batch), ids.target_id(target)
    own_state(dashboard_of(services), name, to, principal.only_tenant)
    match decision:
        case Decision.APPROVE:
            approve_hold(services.platform, name, to, plan_digest, by=by)
            return f"Approved: what was held of batch {name} goes to {to}"
        case Decision.REJECT:
            reject_hold(services.platform, name, to, plan_digest, by=by)
            return f"Rejected: what was held of batch {name} does not go to {to}"
        case _:
            raise NotFound(f"a hold cannot be decided by {decision!r}: approve or reject it")
