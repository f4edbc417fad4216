"""What there is in a tenant's registry: its types, with how many of each, and whether a schema is behind them."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.identity.ids import TenantId
from penstock.ports.registry import Search
from penstock.registry.events import StreamKind
from penstock.use_cases.registry_platform import RegistryPlatform
from penstock.use_cases.registry_queries import counts, export


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeCount:
    """One type."""

    kind: StreamKind
    type_name: str
    count: int
    """Of entities or relationships, published and written ones together."""
    declared: bool
    """Whether there is a schema, or a relationship type, of that name."""


def type_counts(platform: RegistryPlatform, tenant: TenantId) -> list[TypeCount]:
    """Return the types that are declared or in use, entities first, by name."""
    counted = counts(platform, tenant)
    found: list[TypeCount] = []
    for kind, declared_as in (
        (StreamKind.ENTITY, StreamKind.SCHEMA),
        (StreamKind.RELATIONSHIP, StreamKind.RELATIONSHIP_TYPE),
    ):
        declared = _names(platform, tenant, declared_as)
        used = {name: count for (of_kind, name), count in counted.items() if of_kind is kind}
        found += [
            TypeCount(kind=kind, type_name=name, count=used.get(name, 0), declared=name in declared)
            for name in sorted(declared | used.keys())
        ]
    return found


def _names(platform: RegistryPlatform, tenant: TenantId, kind: StreamKind) -> set[str]:
    return {held.stream.key for held in export(platform, Search(tenant_id=tenant, kind=kind))}
