"""What handlers are given of a request: the caller and what is there for them, and acts that are signed."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from control_plane.service.looping import Loops
from control_plane.service.services import Services
from control_plane.web.calling import current_caller, needing, promptly
from control_plane.web.problem_responses import refused
from penstock.access.control import ControlRole
from penstock.access.tokens import Principal
from penstock.registry.problems import Problem, ProblemKind
from penstock.use_cases.acts import By
from penstock.use_cases.sight import Sight

_SHOWN = HTTPBearer(
    scheme_name="token",
    bearerFormat="pct_<id>_<secret>",
    description="A token of `penstock token create`.",
    auto_error=False,
)
"""For the OpenAPI description; the gate has looked at the header already."""
needs = needing(_SHOWN)


def services_of(request: Request) -> Services:
    """Return what the server stands on."""
    services: Services = request.app.state.services
    return services


def loops_of(request: Request) -> Loops:
    """Return the server's loops: to wake one, or to see how they fare."""
    loops: Loops = request.app.state.loops
    return loops


def signed(principal: Principal, reason: str | None = None) -> By:
    """Return a caller's signature under an act."""
    return By(actor=principal.actor, reason=reason or None)


def sight_of(request: Request) -> Sight:
    """Return what the caller may see; the gate has let in nobody whose word was not checked."""
    principal = current_caller(request)
    assert principal is not None, "the gate lets nobody in here without a token"
    return Sight(platform=services_of(request).platform, tenant=principal.only_tenant)


def for_all(principal: Principal) -> None:
    """Refuse an act on what tenants share to one who is of a tenant."""
    if principal.only_tenant is not None:
        raise refused(
            Problem(
                kind=ProblemKind.FORBIDDEN,
                detail="tenants share this: it takes a token for all of them",
            )
        )


ServicesOf = Annotated[Services, Depends(promptly(services_of))]
SightOf = Annotated[Sight, Depends(promptly(sight_of))]
LoopsOf = Annotated[Loops, Depends(promptly(loops_of))]
WorkerCaller = Annotated[Principal, Depends(needs(ControlRole.WORKER))]
Viewer = Annotated[Principal, Depends(needs(ControlRole.VIEWER))]
Operator = Annotated[Principal, Depends(needs(ControlRole.OPERATOR))]
Admin = Annotated[Principal, Depends(needs(ControlRole.ADMIN))]
