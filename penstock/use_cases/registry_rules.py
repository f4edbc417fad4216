"""The rules that a tenant has declared: schemas of entities, and types of relationships."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from penstock.identity.ids import TenantId
from penstock.ports.registry import End
from penstock.registry.events import StreamId, StreamKind
from penstock.registry.problems import Problem
from penstock.use_cases.registry_attributes import (
    Judged,
    active_schema,
    judge_against,
)
from penstock.use_cases.registry_platform import RegistryPlatform, RegistryPolicy
from penstock.use_cases.registry_relationships import ends_ignored, judge_relationship
from penstock.use_cases.registry_validators import Validators
from penstock.use_cases.registry_view import RegistryView


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What holds for everything that is written for one tenant."""

    policy: RegistryPolicy
    validators: Validators

    @classmethod
    def of(cls, platform: RegistryPlatform, tenant: TenantId) -> Rules:
        """Return the rules of a tenant."""
        return cls(policy=platform.policy_of(tenant), validators=platform.validators)

    def judge(self, view: RegistryView, stream: StreamId, attributes: Any) -> Judged | Problem:
        """Say what is to be kept of attributes (plain JSON) that a stream should have, or all that is wrong."""
        if stream.kind is StreamKind.RELATIONSHIP:
            return judge_relationship(view, self.validators, self.policy, stream, attributes)
        schema = active_schema(view, self.validators, stream.type_name, self.policy)
        if schema is None:
            return Judged()
        if isinstance(schema, Problem):
            return schema
        return judge_against(view, stream, attributes, schema)

    def ignoring(self, view: RegistryView, entity_type: str) -> frozenset[tuple[str, End]]:
        """Return the ends of relationships that an entity of this type is never meant by."""
        return ends_ignored(view, entity_type)
