"""Commands on API tokens of the caller's own tenant, for its admins."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Response
from pydantic import Field

from control_plane.registry.calling import needs
from control_plane.registry.carrying import CREATED, ActsOf
from control_plane.registry.documents import NewTokenDocument, TokenDocument, token_document
from control_plane.web.bodies import Body, ReasonField, Why
from control_plane.web.calling import StrictRoute
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import refused, unusable
from control_plane.web.responses import problems
from penstock.access.tokens import Token
from penstock.errors import Unsigned
from penstock.registry.access import Role
from penstock.registry.problems import Problem, ProblemKind
from penstock.strict import Whole
from penstock.use_cases.access_tokens import create_token, revoke_token
from penstock.use_cases.acts import LONGEST_ACTOR, By

router = APIRouter(
    tags=["Tokens"], route_class=StrictRoute, dependencies=[Depends(needs(Role.ADMIN))]
)
LONGEST_DAYS = 3650
TokenId = Annotated[str, Path(pattern="^[0-9a-f]{16}$", examples=["0123456789abcdef"])]


class NewToken(Body):
    """A token to make."""

    name: Annotated[str, Field(min_length=1, max_length=LONGEST_ACTOR, examples=["ada"])]
    role: Role
    days: Whole = Field(default=90, ge=1, le=LONGEST_DAYS, description="Until it expires.")
    reason: ReasonField = ""


@router.post(
    "/tokens",
    status_code=CREATED,
    response_model=NewTokenDocument,
    responses={201: {"description": "It is made."}, **problems(413, 422)},
)
def make_token(body: NewToken, commands: ActsOf) -> Response:
    """Make a token for the caller's tenant; its text is answered this once."""
    try:
        made = create_token(
            commands.backend.tokens,
            tenant=commands.principal.tenant_id,
            role=body.role,
            name=body.name,
            lifetime=timedelta(days=body.days),
            by=By(actor=commands.principal.actor, reason=body.reason or None),
            now=commands.platform.clock.now(),
        )
    except Unsigned as error:
        raise unusable(str(error)) from None
    document = {"text": made.text, **token_document(made.token)}
    return json_response(document, status=CREATED, headers={"Cache-Control": "no-store"})


@router.post(
    "/tokens/{token_id}/revoke",
    response_model=TokenDocument,
    responses={200: {"description": "It lets nobody in any more."}, **problems(404, 409, 413)},
)
def revoke(token_id: TokenId, body: Why, commands: ActsOf) -> Response:
    """Revoke a token of the caller's tenant."""
    kept = commands.backend.tokens.get_token(token_id)
    if kept is None or kept.tenant_id != commands.principal.tenant_id:
        raise refused(Problem(kind=ProblemKind.NOT_FOUND, detail=f"there is no token {token_id!r}"))
    if token_id == commands.principal.caller_id:
        raise refused(
            Problem(
                kind=ProblemKind.ILLEGAL_STEP,
                detail="a token does not revoke itself: ask with another, or use `penstock registry token revoke`",
            )
        )
    revoked: Token = revoke_token(
        commands.backend.tokens,
        token_id,
        by=By(actor=commands.principal.actor, reason=body.reason or None),
        now=commands.platform.clock.now(),
    )
    return json_response(token_document(revoked))
