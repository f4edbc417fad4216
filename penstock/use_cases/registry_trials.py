"""Trying a schema out: what would become of a document as the next version, with nothing changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from penstock.identity.ids import TenantId
from penstock.registry.compatibility import Compatibility, Incompatibility
from penstock.registry.identifiers import schema_stream
from penstock.registry.problems import Problem
from penstock.registry.schema_commands import activate
from penstock.registry.schema_documents import Problem as SchemaProblem
from penstock.registry.schema_documents import problems_of
from penstock.registry.schema_references import BadReference
from penstock.registry.schemas import Incompatible, Schema, SchemaStatus
from penstock.use_cases.registry_definitions import Definitions
from penstock.use_cases.registry_platform import RegistryPlatform
from penstock.use_cases.registry_queries import get
from penstock.use_cases.registry_view import RegistryView

_NOBODY = "trial"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What would become of a document."""

    mode: Compatibility
    problems: tuple[SchemaProblem, ...] = ()
    """Why it is not taken as this schema at all."""
    incompatibilities: tuple[Incompatibility, ...] = ()
    """Where it breaks what the mode promises."""

    @property
    def compatible(self) -> bool:
        """Whether it could be the next version."""
        return not self.problems and not self.incompatibilities


def try_out(
    platform: RegistryPlatform,
    tenant: TenantId,
    schema_id: str,
    document: Mapping[str, Any],
    *,
    mode: Compatibility | None = None,
) -> Trial | Problem:
    """Say whether a document could be the next version of a schema, under its own mode or another."""
    held = get(platform, schema_stream(tenant, schema_id))
    if isinstance(held, Problem):
        return held
    schema = Schema.from_state(held.state)
    now = platform.clock.now()
    around = Definitions(view=RegistryView(store=platform.store, tenant=tenant, now=now))
    promised = mode or schema.compatibility
    found = [*_title_problems(schema, document), *problems_of(document, around.resolve)]
    if found:
        return Trial(mode=promised, problems=tuple(found))
    candidate = replace(
        schema, status=SchemaStatus.VALID, document=dict(document), compatibility=promised
    )
    try:
        activate(candidate, resolve=around.resolve, reason=_NOBODY, by=_NOBODY, now=now)
    except BadReference as error:
        problem = SchemaProblem(path="", rule="$ref", message=str(error))
        return Trial(mode=promised, problems=(problem,))
    except Incompatible as error:
        return Trial(mode=promised, incompatibilities=error.found)
    return Trial(mode=promised)


def _title_problems(schema: Schema, document: Mapping[str, Any]) -> list[SchemaProblem]:
    title = document.get("title", schema.title)
    if title == schema.title:
        return []
    message = f"the title of a schema never changes: it is {schema.title!r}"
    return [SchemaProblem(path="/title", rule="const", message=message)]
