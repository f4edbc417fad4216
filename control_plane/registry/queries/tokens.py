"""Queries on API tokens of the caller's own tenant, for its admins."""

from __future__ import annotations

from fastapi import APIRouter, Response

from control_plane.registry.calling import Admin, BackendOf
from control_plane.registry.documents import TokenList, token_document
from control_plane.web.calling import StrictRoute
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems

router = APIRouter(tags=["Tokens"], route_class=StrictRoute)


@router.get("/tokens", response_model=TokenList, responses=problems())
def list_tokens(backend: BackendOf, caller: Admin) -> Response:
    """List the tenant's tokens, oldest first; secrets are not known."""
    found = backend.tokens.list_tokens(caller.tenant_id)
    return json_response({"items": [token_document(token) for token in found]})
