"""Targets: their breakers and pauses."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.pages.acting import Proof, Reason, acted, for_all
from control_plane.service.pages.pausing import pause_or_resume
from control_plane.service.pages.showing import shown
from control_plane.service.services import Services
from penstock.access.control import ControlRole
from penstock.access.tokens import Principal
from penstock.identity import ids
from penstock.ports.pauses import PauseScope
from penstock.use_cases.acts import By
from penstock.use_cases.breakers import breaker_overviews, reset_breaker

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)


@router.get("/targets")
def targets(request: Request, services: ServicesOf) -> Response:
    """Show every target, with its breaker and whether it is paused."""
    return shown(request, "Targets", lambda principal: _targets(services, principal))


@router.post("/targets/{target}/{act}")
def act_on_target(
    request: Request,
    target: str,
    act: str,
    services: ServicesOf,
    csrf: Proof = "",
    reason: Reason = "",
) -> Response:
    """Reset a target's breaker, pause the target or resume it."""
    return acted(
        request,
        "Targets",
        lambda principal, by: _act(services, principal, target, act, by),
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/targets",
        again=lambda principal: _targets(services, principal),
        typed={"of": target},
    )


def _targets(services: Services, principal: Principal) -> tuple[str, dict[str, Any]]:
    paused = services.platform.control.list_pauses()
    return "targets.html", {
        "breakers": breaker_overviews(services.platform),
        "pauses": {each.scope_id: each for each in paused if each.scope is PauseScope.TARGET},
        "may_act": principal.only_tenant is None and principal.role.includes(ControlRole.OPERATOR),
    }


def _act(services: Services, principal: Principal, target: str, act: str, by: By) -> str:
    name = ids.target_id(target)
    for_all(principal, f"target {name}")
    if act == "reset":
        reset = reset_breaker(services.platform, name, by=by)
        return f"The breaker of {name} is closed; batches that are due with that: {reset.woken}"
    return pause_or_resume(services, PauseScope.TARGET, name, act, by)
