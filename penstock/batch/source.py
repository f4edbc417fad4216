"""How a data engineer declares a source: what it is, and a generator that extracts it.

::

    @source("crm", importance=0.8, cadence_s=900)
    def crm(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("customer"):
            for row in fetch_customers():
                yield Entity(entity_type="customer", entity_key=f"crm/{row.id}", attributes=row.fields)

A scope that ends without an exception is ``complete``; one that raises is ``failed``, its error is kept as
the reason, and the extract goes on. What is extracted outside any scope deletes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeAlias

import pyarrow as pa

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.manifest import Mode, RelationshipType
from penstock.batch.ownership import Ownership, checked_ownership
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.scope import Completeness, Scope
from penstock.errors import PenstockError
from penstock.identity import ids
from penstock.identity.ids import SourceId, TargetId, TenantId

Extracted: TypeAlias = Entity | Relationship | pa.Table | pa.RecordBatch
"""What an extractor may yield. An Arrow table has the columns of ``ENTITY_SCHEMA`` or
``RELATIONSHIP_SCHEMA`` (``tombstone`` may be left out), or, in place of ``attributes``, any number of typed columns
that become the attributes."""


@dataclass(kw_only=True)
class Extract:
    """What an extractor is given, and where it declares how complete it was."""

    source_timestamp: datetime
    settings: Mapping[str, Any] = field(default_factory=dict)
    scopes: list[Scope] = field(default_factory=list)
    filtered: Counter[tuple[Kind, str]] = field(default_factory=Counter)

    @contextmanager
    def scope(
        self, type_name: str, key_prefix: str = "", *, kind: Kind = Kind.ENTITY
    ) -> Iterator[None]:
        """Enumerate one scope: complete if the block ends, failed (and passed over) if it raises."""
        with self.scopes_of([(kind, type_name)], key_prefix):
            yield

    @contextmanager
    def scopes_of(self, types: Iterable[tuple[Kind, str]], key_prefix: str = "") -> Iterator[None]:
        """Enumerate several types together: all are complete, or all are failed."""
        listed = list(types)
        try:
            yield
        except Exception as error:  # noqa: BLE001  a failed page costs its own scope, not the extract
            reason = f"{type(error).__name__}: {error}"[:2000]
            for kind, type_name in listed:
                self.declare(type_name, Completeness.FAILED, key_prefix, kind=kind, reason=reason)
        else:
            for kind, type_name in listed:
                self.declare(type_name, Completeness.COMPLETE, key_prefix, kind=kind)

    def declare(
        self,
        type_name: str,
        completeness: Completeness,
        key_prefix: str = "",
        *,
        kind: Kind = Kind.ENTITY,
        reason: str | None = None,
    ) -> None:
        """Say outright how complete a scope is."""
        self.scopes.append(
            Scope(
                kind=kind,
                type_name=type_name,
                key_prefix=key_prefix,
                completeness=completeness,
                reason=reason,
            )
        )

    def filter(self, type_name: str, count: int = 1, *, kind: Kind = Kind.ENTITY) -> None:
        """Count rows that are left out on purpose, so that the ledger still balances."""
        self.filtered[kind, type_name] += count


class Extractor(Protocol):
    """A callable that yields what a source holds."""

    def __call__(self, extract: Extract, /) -> Iterable[Extracted]:
        """Yield entities, relationships or Arrow tables, declaring scopes on ``extract``."""


Transform = Callable[[Entity | Relationship], Iterable[Entity | Relationship]]
"""Maps one extracted row to none, one or several rows of the batch."""


@dataclass(frozen=True, kw_only=True)
class SourceSpec:
    """What the platform knows of a source besides its rows."""

    source_id: SourceId
    tenant_id: TenantId = TenantId("default")
    importance: float = 0.5
    """0 (may wait) to 1 (first)."""
    complexity: float = 0.5
    """0 (cheap to publish) to 1 (dear): dear batches yield to cheap ones, weights permitting."""
    cadence_s: int | None = None
    """Seconds between scheduled extracts; None leaves it to a person or another system."""
    sla_s: int | None = None
    """Seconds from source timestamp within which a batch should be COMPLETE."""
    targets: tuple[TargetId, ...] = (TargetId("registry"),)
    description: str = ""
    guard_policy: GuardPolicy | None = None
    """Limits of its own; None for the platform's."""
    ownership: Ownership = field(default_factory=dict)
    """Fields that people or other systems own once an entity is in a target."""


@dataclass(frozen=True, kw_only=True)
class SourceDefinition:
    """A source as declared in code."""

    spec: SourceSpec
    extractor: Extractor
    transform: Transform | None = None
    mode: Mode = Mode.FULL
    relationship_types: tuple[RelationshipType, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def with_settings(self, **settings: Any) -> SourceDefinition:
        """Return this source with some settings replaced."""
        return replace(self, settings={**self.settings, **settings})


def source(
    source_id: str,
    *,
    tenant: str = "default",
    importance: float = 0.5,
    complexity: float = 0.5,
    cadence_s: int | None = None,
    sla_s: int | None = None,
    targets: Iterable[str] = ("registry",),
    mode: Mode = Mode.FULL,
    relationship_types: Iterable[RelationshipType] = (),
    transform: Transform | None = None,
    settings: Mapping[str, Any] | None = None,
    description: str | None = None,
    guards: GuardPolicy | None = None,
    ownership: Mapping[str, Mapping[str, str]] | None = None,
) -> Callable[[Extractor], SourceDefinition]:
    """Turn a generator function into a :class:`SourceDefinition`."""

    def declare(extractor: Extractor) -> SourceDefinition:
        doc = (getattr(extractor, "__doc__", None) or "").strip().split("\n\n")[0]
        spec = SourceSpec(
            source_id=ids.source_id(source_id),
            tenant_id=ids.tenant_id(tenant),
            importance=importance,
            complexity=complexity,
            cadence_s=cadence_s,
            sla_s=sla_s,
            targets=tuple(ids.target_id(target) for target in targets),
            description=description if description is not None else doc,
            guard_policy=guards,
            ownership=checked_ownership(ownership or {}),
        )
        _check(spec)
        return SourceDefinition(
            spec=spec,
            extractor=extractor,
            transform=transform,
            mode=mode,
            relationship_types=tuple(relationship_types),
            settings=dict(settings or {}),
        )

    return declare


def _check(spec: SourceSpec) -> None:
    """Refuse numbers that the queue could not weigh, and a source that leads nowhere."""
    for name in ("importance", "complexity"):
        if not 0 <= getattr(spec, name) <= 1:
            raise PenstockError(
                f"source {spec.source_id}: {name} is {getattr(spec, name)}: pass a number from 0 to 1"
            )
    for name in ("cadence_s", "sla_s"):
        seconds = getattr(spec, name)
        if seconds is not None and seconds <= 0:
            raise PenstockError(
                f"source {spec.source_id}: {name} is {seconds}: pass seconds, or None"
            )
    if not spec.targets:
        raise PenstockError(f"source {spec.source_id} has no targets: name one, e.g. registry")
