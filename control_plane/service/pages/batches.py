"""Batches: which there are, and everything recorded of one."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from control_plane.service.addresses import DASHBOARD
from control_plane.service.calling import ServicesOf
from control_plane.service.forecasting import forecasting_of
from control_plane.service.pages.acting import Proof, Reason, acted
from control_plane.service.pages.showing import shown
from control_plane.service.pages.standing import dashboard_of
from control_plane.service.services import Services
from penstock.access.tokens import Principal
from penstock.errors import NotFound, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, TargetId
from penstock.publish.state import PublishState, PublishStatus
from penstock.use_cases import operate
from penstock.use_cases.acts import By
from penstock.use_cases.dashboard import sources_of
from penstock.use_cases.dashboard_scope import own_batch, own_state
from penstock.use_cases.forecasting import batch_etas
from penstock.use_cases.queries import attempts_of, batch_details, batch_id_of

router = APIRouter(prefix=DASHBOARD, include_in_schema=False)
_PAGE = 50


class BatchAct(StrEnum):
    """What may be asked of a batch on its way to a target."""

    REQUEUE = "requeue"
    REPUBLISH = "republish"
    PRIORITISE = "prioritise"
    CANCEL = "cancel"


@router.get("/batches")
def batches(
    request: Request, services: ServicesOf, source: str = "", status: str = "", after: str = ""
) -> Response:
    """Show batches on their way to targets, newest first."""
    asked = {"source": source, "status": status, "after": after}
    return shown(request, "Batches", lambda principal: _batches(services, principal, asked))


@router.get("/batches/{batch}")
def one_batch(request: Request, batch: str, services: ServicesOf) -> Response:
    """Show a batch: states, ledger, attempts, exceptions."""
    return shown(request, "Batches", lambda principal: _batch(services, principal, batch))


@router.post("/batches/{batch}/{target}/{act}")
def act_on_batch(
    request: Request,
    batch: str,
    target: str,
    act: str,
    services: ServicesOf,
    csrf: Proof = "",
    reason: Reason = "",
) -> Response:
    """Requeue, republish, prioritise or cancel a batch."""
    return acted(
        request,
        "Batches",
        lambda principal, by: _act(services, principal, batch, target, act, by),
        csrf=csrf,
        reason=reason,
        back=f"{DASHBOARD}/batches/{batch}",
        again=lambda principal: _batch(services, principal, batch),
    )


def _batches(
    services: Services, principal: Principal, asked: dict[str, str]
) -> tuple[str, dict[str, Any]]:
    dashboard, tenant = dashboard_of(services), principal.only_tenant
    if asked["status"] and asked["status"] not in list(PublishStatus):
        raise PenstockError(f"there is no status {asked['status']!r}")
    found = dashboard.views.states_page(
        tenant,
        source=ids.source_id(asked["source"]) if asked["source"] else None,
        statuses=[PublishStatus(asked["status"])] if asked["status"] else [],
        after=_place(asked["after"]),
        limit=_PAGE + 1,
    )
    following = None
    if len(found) > _PAGE:
        following = "?" + urlencode({**asked, "after": _text(found[_PAGE - 1])})
    return "batches.html", {
        "states": found[:_PAGE],
        "asked": asked,
        "sources": [spec.source_id for spec in sources_of(dashboard, tenant)],
        "statuses": list(PublishStatus),
        "next": following,
    }


def _text(state: PublishState) -> str:
    return f"{state.source_timestamp.isoformat()}|{state.batch_id}|{state.target_id}"


def _place(text: str) -> tuple[datetime, BatchId, TargetId] | None:
    if not text:
        return None
    try:
        moment, batch, target = text.split("|")
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise PenstockError("this is no place in the list: begin at its top") from None
    if at.tzinfo is None:
        raise PenstockError("this is no place in the list: begin at its top")
    return at, batch_id_of(batch), ids.target_id(target)


def _batch(services: Services, principal: Principal, batch: str) -> tuple[str, dict[str, Any]]:
    dashboard, tenant = dashboard_of(services), principal.only_tenant
    name = batch_id_of(batch)
    own_batch(dashboard, name, tenant)
    details = batch_details(services.platform, name, exceptions=50)
    states = [each.state for each in details.targets]
    now = services.clock.now()
    moving = dashboard.views.moving(tenant, now=now, limit=50, batch=name)
    etas = batch_etas(
        forecasting_of(services), tenant=tenant, source=details.record.manifest.source_id
    )
    return "batch.html", {
        "record": details.record,
        "manifest": details.record.manifest,
        "targets": details.targets,
        "attempts": attempts_of(services.platform, states),
        "moving": {each.state.target_id: each for each in moving},
        "etas": {eta.target_id: eta for eta in etas if eta.batch_id == name},
        "dagster_url": services.settings.dagster_url,
    }


def _act(
    services: Services, principal: Principal, batch: str, target: str, act: str, by: By
) -> str:
    platform = services.platform
    name, to = batch_id_of(batch), ids.target_id(target)
    own_state(dashboard_of(services), name, to, principal.only_tenant)
    if act not in list(BatchAct):
        raise NotFound(f"a batch cannot be asked to {act!r}")
    match BatchAct(act):
        case BatchAct.REQUEUE:
            done, what = operate.requeue(platform, name, to, by=by), "is back in the queue"
        case BatchAct.REPUBLISH:
            done, what = operate.republish(platform, name, to, by=by), "is published again"
        case BatchAct.PRIORITISE:
            done, what = operate.prioritise(platform, name, to, by=by), "goes first"
        case BatchAct.CANCEL:
            done, what = operate.cancel(platform, name, to, by=by), "is out of the queue"
    return ". ".join([f"Batch {name} {what} for target {to}", *done.notes])
