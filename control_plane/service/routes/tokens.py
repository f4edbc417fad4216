"""API tokens of the control plane, for admins: those of their own tenant, or all of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Response
from pydantic import Field

from control_plane.answers import plain
from control_plane.service.calling import Admin, ServicesOf, signed
from control_plane.web.bodies import Body, ReasonField, Why
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document, Json, Moment
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.access.control import ControlRole
from penstock.access.tokens import EVERY_TENANT, Token
from penstock.errors import IllegalMove, NotFound
from penstock.identity import ids
from penstock.strict import Whole
from penstock.use_cases.access_tokens import create_token, revoke_token
from penstock.use_cases.acts import LONGEST_ACTOR

router = APIRouter(tags=["Tokens"], route_class=StrictRoute)
CREATED = 201
LONGEST_DAYS = 3650
TokenId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", examples=["0123456789abcdef"])]


class NewToken(Body):
    """A token to make."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_ACTOR, examples=["ada"])]
    role: ControlRole
    tenant: Annotated[
        str | None, Field(pattern=rf"^(\*|{ids.SLUG.pattern})$", examples=["default"])
    ] = Field(
        default=None, description="The caller's own without it; `*` for all, if the caller's is."
    )
    days: Whole = Field(default=90, ge=1, le=LONGEST_DAYS, description="Until it expires.")
    reason: ReasonField = ""


class TokenDocument(Document):
    """What may be seen of a token."""

    token_id: str
    tenant: str = Field(description="`*` for all tenants.")
    role: ControlRole
    name: str = Field(description="Whose it is: the actor of what is done with it.")
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    revoked_at: Moment | None
    revoked_by: str | None
    last_used_at: Moment | None


class NewTokenDocument(TokenDocument):
    """A token that has just been made."""

    text: str = Field(
        description="What `Authorization: Bearer` takes. It is not kept and not shown again."
    )


class TokenList(Document):
    """Tokens, oldest first."""

    items: list[TokenDocument]


@router.get("/tokens", response_model=TokenList, responses=problems())
def list_tokens(services: ServicesOf, caller: Admin) -> Response:
    """List tokens, oldest first; secrets are not known."""
    found = services.tokens.list_tokens(caller.only_tenant)
    return json_response({"items": [_document(token) for token in found]})


@router.post(
    "/tokens",
    status_code=CREATED,
    response_model=NewTokenDocument,
    responses={201: {"description": "It is made."}, **problems(404, 413, 422)},
)
def make_token(body: NewToken, services: ServicesOf, caller: Admin) -> Response:
    """Make a token; its text is answered this once."""
    wanted = body.tenant or caller.tenant_id
    tenant = EVERY_TENANT if wanted == EVERY_TENANT else ids.tenant_id(wanted)
    if not caller.sees(tenant):
        raise NotFound(f"there is no tenant {wanted!r}")
    made = create_token(
        services.tokens,
        tenant=tenant,
        role=body.role,
        name=body.name,
        lifetime=timedelta(days=body.days),
        by=signed(caller, body.reason),
        now=services.clock.now(),
    )
    document = {"text": made.text, **_document(made.token)}
    return json_response(document, status=CREATED, headers={"Cache-Control": "no-store"})


@router.post(
    "/tokens/{token_id}/revoke",
    response_model=TokenDocument,
    responses={200: {"description": "It lets nobody in any more."}, **problems(404, 409, 413)},
)
def revoke(token_id: TokenId, body: Why, services: ServicesOf, caller: Admin) -> Response:
    """Revoke a token."""
    kept = services.tokens.get_token(token_id)
    if kept is None or not caller.sees(kept.tenant_id):
        raise NotFound(f"there is no token {token_id!r}")
    if token_id == caller.caller_id:
        raise IllegalMove(
            "a token does not revoke itself: ask with another, or use `penstock token revoke`"
        )
    by, now = signed(caller, body.reason), services.clock.now()
    revoked = revoke_token(services.tokens, token_id, by=by, now=now)
    services.remembered.forget()
    return json_response(_document(revoked))


def _document(token: Token) -> Json:
    known: Json = plain(token)
    shown = {name: known[name] for name in TokenDocument.model_fields if name != "tenant"}
    return {**shown, "tenant": token.tenant_id}
