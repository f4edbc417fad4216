"""Destinations: where events are sent to, for admins to decide."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import Field

from control_plane.service.calling import Admin, ServicesOf, Viewer, signed
from control_plane.service.event_documents import (
    CURSOR_PATTERN,
    DeliveryList,
    DestinationDocument,
    DestinationList,
    NewDestinationDocument,
    Secret,
    Tried,
    cursor_of,
    delivery_document,
    destination_document,
)
from control_plane.service.services import Services
from control_plane.web.bodies import Body, Instant, ReasonField, Why
from control_plane.web.calling import StrictRoute
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import unusable
from control_plane.web.responses import problems
from penstock.access.tokens import EVERY_TENANT, Principal
from penstock.errors import NotFound
from penstock.events.delivery import DestinationKind
from penstock.events.envelope import OutboxCursor
from penstock.identity import ids
from penstock.identity.ids import TenantId
from penstock.use_cases import destinations as acts
from penstock.use_cases.destinations import Directory, NewDestination, wanted_of
from resources.control_db.destinations import SqlDestinations
from resources.event_wiring import open_directory, open_sender

router = APIRouter(tags=["Destinations"], route_class=StrictRoute)
CREATED = 201
_SLUG = rf"^{ids.SLUG.pattern}$"
DestinationId = Annotated[str, Path(pattern=_SLUG, examples=["chat"])]
Types = Annotated[list[Annotated[str, Field(max_length=63)]], Field(max_length=100)]
Subjects = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=255)]], Field(max_length=50)
]


class DestinationBody(Body):
    """A destination to make."""

    id: Annotated[str, Field(pattern=_SLUG, examples=["chat"])]
    kind: DestinationKind = DestinationKind.WEBHOOK
    address: Annotated[str, Field(min_length=1, max_length=2000)] = Field(
        description="A URL, or the name of an exchange.", examples=["https://example.org/hook"]
    )
    types: Types = Field(default=[], description="Only these types of events; empty for all.")
    subjects: Subjects = Field(
        default=[], description="Only events whose subject begins with one of these."
    )
    since: Instant | None = Field(
        default=None, description="Send also what happened since, as far as it is kept."
    )
    tenant: Annotated[str | None, Field(pattern=rf"^(\*|{ids.SLUG.pattern})$")] = Field(
        default=None, description="The caller's own without it; `*` for all, if the caller's is."
    )
    reason: ReasonField = ""


class ChangeBody(Body):
    """What is to be different; what is left out stays."""

    address: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    types: Types | None = None
    subjects: Subjects | None = None
    reason: ReasonField = ""


class ReplayBody(Body):
    """From where on events are sent again: a moment, or a place."""

    since: Instant | None = None
    after: Annotated[str | None, Field(pattern=CURSOR_PATTERN, max_length=40)] = None
    reason: ReasonField = ""


@router.get("/destinations", response_model=DestinationList, responses=problems())
def list_destinations(services: ServicesOf, caller: Viewer) -> Response:
    """List where events are sent to."""
    found = SqlDestinations.from_engine(services.engine).find(caller.only_tenant)
    return json_response({"items": [destination_document(each) for each in found]})


@router.post(
    "/destinations",
    status_code=CREATED,
    response_model=NewDestinationDocument,
    responses={201: {"description": "It is made."}, **problems(404, 409, 413, 422)},
)
def add_destination(body: DestinationBody, services: ServicesOf, caller: Admin) -> Response:
    """Have events sent somewhere; what they are signed with is answered this once."""
    new = NewDestination(
        destination_id=body.id,
        tenant_id=_tenant(body, caller),
        kind=body.kind,
        address=body.address,
        wanted=wanted_of(body.types, body.subjects) or NewDestination.wanted,
        since=body.since,
    )
    added = acts.add_destination(_directory(services), new, by=signed(caller, body.reason))
    document = {**destination_document(added.destination), "secret": added.secret}
    return json_response(document, status=CREATED, headers={"Cache-Control": "no-store"})


@router.get(
    "/destinations/{destination_id}", response_model=DestinationDocument, responses=problems(404)
)
def get_destination(
    destination_id: DestinationId, services: ServicesOf, caller: Viewer
) -> Response:
    """Look at a destination."""
    store = SqlDestinations.from_engine(services.engine)
    found = acts.own_destination(store, destination_id, caller.only_tenant)
    return json_response(destination_document(found))


@router.patch(
    "/destinations/{destination_id}",
    response_model=DestinationDocument,
    responses={200: {"description": "It is changed."}, **problems(404, 413, 422)},
)
def change_destination(
    destination_id: DestinationId, body: ChangeBody, services: ServicesOf, caller: Admin
) -> Response:
    """Change where events are sent, or which."""
    before = acts.own_destination(
        SqlDestinations.from_engine(services.engine), destination_id, caller.only_tenant
    )
    wanted = None
    if body.types is not None or body.subjects is not None:
        types = before.wanted.types if body.types is None else body.types
        subjects = before.wanted.subjects if body.subjects is None else body.subjects
        wanted = wanted_of(types, subjects)
    changed = acts.change_destination(
        _directory(services),
        destination_id,
        tenant=caller.only_tenant,
        address=body.address,
        wanted=wanted,
        by=signed(caller, body.reason),
    )
    return json_response(destination_document(changed))


@router.delete(
    "/destinations/{destination_id}",
    status_code=204,
    response_class=Response,
    responses={204: {"description": "It is gone."}, **problems(404)},
)
def remove_destination(
    destination_id: DestinationId,
    services: ServicesOf,
    caller: Admin,
    reason: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """Send it nothing any more, and forget it."""
    acts.remove_destination(
        _directory(services), destination_id, tenant=caller.only_tenant, by=signed(caller, reason)
    )
    return Response(status_code=204)


@router.post(
    "/destinations/{destination_id}/enable",
    response_model=DestinationDocument,
    responses={200: {"description": "It is sent events."}, **problems(404, 413)},
)
def enable_destination(
    destination_id: DestinationId, body: Why, services: ServicesOf, caller: Admin
) -> Response:
    """Have it sent events again, from where it was."""
    found = acts.enable_destination(_directory(services), destination_id, **_who(caller, body))
    return json_response(destination_document(found))


@router.post(
    "/destinations/{destination_id}/disable",
    response_model=DestinationDocument,
    responses={200: {"description": "It is sent nothing."}, **problems(404, 413)},
)
def disable_destination(
    destination_id: DestinationId, body: Why, services: ServicesOf, caller: Admin
) -> Response:
    """Have it sent nothing until it is enabled."""
    found = acts.disable_destination(_directory(services), destination_id, **_who(caller, body))
    return json_response(destination_document(found))


@router.post(
    "/destinations/{destination_id}/replay",
    response_model=DestinationDocument,
    responses={200: {"description": "It is sent them again."}, **problems(404, 413, 422)},
)
def replay_destination(
    destination_id: DestinationId, body: ReplayBody, services: ServicesOf, caller: Admin
) -> Response:
    """Have it sent again what came since a moment, or after a place."""
    since: datetime | OutboxCursor
    if body.since is not None and body.after is None:
        since = body.since
    elif body.after is not None and body.since is None:
        since = cursor_of(body.after)
    else:
        raise unusable("say since when events are sent again, or after which place: one of both")
    found = acts.replay_destination(
        _directory(services),
        destination_id,
        tenant=caller.only_tenant,
        since=since,
        by=signed(caller, body.reason),
    )
    return json_response(destination_document(found))


@router.post(
    "/destinations/{destination_id}/secret",
    response_model=Secret,
    responses={200: {"description": "It signs from now on."}, **problems(404, 413, 422)},
)
def rotate_secret(
    destination_id: DestinationId, body: Why, services: ServicesOf, caller: Admin
) -> Response:
    """Sign with a new secret, and with the one before for a day more."""
    secret = acts.rotate_secret(_directory(services), destination_id, **_who(caller, body))
    return json_response({"secret": secret}, headers={"Cache-Control": "no-store"})


@router.post(
    "/destinations/{destination_id}/test",
    response_model=Tried,
    responses={200: {"description": "What it said."}, **problems(404, 413)},
)
def test_destination(
    destination_id: DestinationId, body: Why, services: ServicesOf, caller: Admin
) -> Response:
    """Send one event of type `penstock.test` at once."""
    sender = open_sender(services.settings, services.clock)
    try:
        answer = acts.try_destination(
            _directory(services), sender, destination_id, **_who(caller, body)
        )
    finally:
        sender.close()
    tried = {
        "delivered": answer.taken,
        "status_code": answer.status_code,
        "error": answer.error,
    }
    return json_response(tried)


@router.get(
    "/destinations/{destination_id}/deliveries",
    response_model=DeliveryList,
    responses=problems(404),
)
def list_deliveries(
    destination_id: DestinationId,
    services: ServicesOf,
    caller: Viewer,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """List the last tries to send it something, newest first."""
    store = SqlDestinations.from_engine(services.engine)
    acts.own_destination(store, destination_id, caller.only_tenant)
    found = store.deliveries(destination_id, limit=limit)
    return json_response({"items": [delivery_document(each) for each in found]})


def _directory(services: Services) -> Directory:
    return open_directory(services.settings, services.engine, services.clock)


def _who(caller: Principal, body: Why) -> dict[str, Any]:
    return {"tenant": caller.only_tenant, "by": signed(caller, body.reason)}


def _tenant(body: DestinationBody, caller: Principal) -> TenantId:
    wanted = body.tenant or caller.tenant_id
    tenant = EVERY_TENANT if wanted == EVERY_TENANT else ids.tenant_id(wanted)
    if not caller.sees(tenant):
        raise NotFound(f"there is no tenant {wanted!r}")
    if body.kind is DestinationKind.RABBITMQ and caller.tenant_id != EVERY_TENANT:
        raise unusable("the broker is the platform's: a token of all tenants sends events there")
    return tenant
