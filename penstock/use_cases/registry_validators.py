"""Compiled schemas, kept between commands: a version of a schema never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

from penstock.identity.ids import TenantId
from penstock.registry.identifiers import schema_stream
from penstock.registry.relationship_types import RelationshipType
from penstock.registry.schema_references import Referent
from penstock.registry.schema_validation import Validator, compiled
from penstock.registry.schemas import Schema, SchemaVersion
from penstock.use_cases.registry_view import RegistryView

_KEPT = 1_024


@dataclass(kw_only=True)
class Validators:
    """Compiled schemas by tenant, id, version and digest. May be shared between threads."""

    _kept: OrderedDict[tuple[TenantId, str, int, bytes], Validator] = field(
        default_factory=OrderedDict
    )
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def of(self, view: RegistryView, schema: Schema, version: SchemaVersion) -> Validator:
        """Return the validator of one version of a schema."""
        key = (view.tenant, schema.schema_id, version.number, version.digest)
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found

        def resolve(schema_id: str, number: int | None) -> Referent | None:
            held = view.get(schema_stream(view.tenant, schema_id))
            return None if held is None else Schema.from_state(held.state).referent(number)

        itself = (schema.schema_id, version.number)
        made = compiled(version.document, resolve, pins=version.pins, itself=itself)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made

    def of_type(self, declared: RelationshipType) -> Validator | None:
        """Return what validates the attributes of a relationship type, or None if it takes any."""
        # Compiling is cached by content; the documents are small and refer to nothing outside.
        return None if declared.attributes is None else compiled(declared.attributes)
