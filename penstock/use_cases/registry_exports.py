"""Exporting a version of a schema to where nothing else of the registry is known."""

from __future__ import annotations

from typing import Any

from penstock.identity.ids import TenantId
from penstock.registry.identifiers import schema_stream
from penstock.registry.problems import Problem, ProblemKind
from penstock.registry.schema_export import exported
from penstock.registry.schemas import Schema, UnknownVersion
from penstock.use_cases.registry_definitions import Definitions
from penstock.use_cases.registry_platform import RegistryPlatform
from penstock.use_cases.registry_queries import get
from penstock.use_cases.registry_view import RegistryView


def export_version(
    platform: RegistryPlatform, tenant: TenantId, schema_id: str, number: int
) -> dict[str, Any] | Problem:
    """Return the JSON Schema of one version with all that it refers to inside, at the versions that it is pinned to."""
    held = get(platform, schema_stream(tenant, schema_id))
    if isinstance(held, Problem):
        return held
    try:
        version = Schema.from_state(held.state).version(number)
    except UnknownVersion as error:
        return Problem(kind=ProblemKind.NOT_FOUND, detail=str(error))
    view = RegistryView(store=platform.store, tenant=tenant, now=platform.clock.now())
    return exported(
        version.document,
        Definitions(view=view).resolve,
        pins=version.pins,
        itself=(schema_id, number),
    )
