"""Queries on who did what, when and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from control_plane.answers import plain
from control_plane.service.calling import SightOf, Viewer
from control_plane.service.routes.asking import Limit, OnlySource, source_of
from control_plane.web.calling import StrictRoute
from control_plane.web.documents import Document
from control_plane.web.json_answers import json_response
from control_plane.web.responses import problems
from penstock.ports.audit_log import AuditEntry

router = APIRouter(tags=["Audit"], route_class=StrictRoute)


class ActList(Document):
    """Acts, newest first."""

    items: list[AuditEntry]


@router.get("/audit", response_model=ActList, responses=problems(404))
def list_acts(
    sight: SightOf,
    _caller: Viewer,
    subject: Annotated[
        str | None, Query(max_length=1024, description="Only on this: a batch id, ...")
    ] = None,
    source: OnlySource = None,
    limit: Limit = 100,
) -> Response:
    """List what people did, newest first; those of a tenant see what was done to their sources."""
    only = source_of(source)
    if only is not None:
        sight.source(only)
    found = sight.platform.control.list_acts(
        subject=subject, source=only, sources=sight.sources, limit=limit
    )
    return json_response({"items": plain(found)})
