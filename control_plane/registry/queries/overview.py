"""What there is in all, and who is asking."""

from __future__ import annotations

from fastapi import APIRouter, Response

from control_plane.registry.calling import BackendOf, Reader
from control_plane.registry.documents import TypesDocument
from control_plane.web.documents import Document
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.registry.access import Role
from penstock.use_cases.registry_overview import type_counts

router = APIRouter(tags=["Overview"])


class WhoDocument(Document):
    """A caller as the registry sees it."""

    actor: str
    tenant: str
    role: Role


@router.get("/types", response_model=TypesDocument, responses=problems())
def list_types(backend: BackendOf, caller: Reader) -> Response:
    """List the types that are declared or in use, with how many there are of each."""
    found = type_counts(backend.platform, caller.tenant_id)
    items = [
        {"kind": each.kind, "type": each.type_name, "count": each.count, "declared": each.declared}
        for each in found
    ]
    return json_response({"items": items})


@router.get("/whoami", response_model=WhoDocument, responses=problems())
def who_am_i(caller: Reader) -> Response:
    """Return whom the token speaks for."""
    return json_response({"actor": caller.actor, "tenant": caller.tenant_id, "role": caller.role})
