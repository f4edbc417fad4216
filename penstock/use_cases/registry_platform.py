"""What the registry's use cases are given, and what they answer with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from penstock.identity.ids import TenantId
from penstock.ports.clock import Clock
from penstock.ports.registry import Held, RegistryStore
from penstock.registry.commands import Command, JsonPatch, MergePatch, Replace
from penstock.registry.events import StreamId
from penstock.registry.problems import Problem
from penstock.use_cases.registry_validators import Validators


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryPolicy:
    """What a tenant decides about its registry."""

    version_required: frozenset[type[Command]] = frozenset({Replace, MergePatch, JsonPatch})
    """Commands that have to say which version of what is there they mean."""
    definitions_want_version: bool = True
    """Whether a draft, or a relationship type that is there, is replaced only under the version that was seen."""
    accept_undeclared_types: bool = True
    """Whether entities of a type without an active schema are taken as they are (``schema_version`` None), and
    relationships of a type that is not declared. Sources may publish before anybody has written a schema."""
    four_eyes: bool = True
    """Whether somebody else than who put an entity forward has to vouch for it."""
    most_in_batch: int = 1_000


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryPlatform:
    """The registry's outside, as its use cases see it."""

    store: RegistryStore
    clock: Clock
    new_id: Callable[[], bytes]
    """16 random bytes: the operation of a command that has no idempotency key."""
    policy: RegistryPolicy = field(default_factory=RegistryPolicy)
    policies: Mapping[TenantId, RegistryPolicy] = field(default_factory=dict)
    """Of tenants that have one of their own."""
    validators: Validators = field(default_factory=Validators)
    attempts: int = 8
    """How often a command is decided anew when others change what it was decided on."""

    def policy_of(self, tenant: TenantId) -> RegistryPolicy:
        """Return what a tenant has decided."""
        return self.policies.get(tenant, self.policy)


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """A command was carried out, now or the first time that it was asked for."""

    stream: StreamId
    held: Held | None
    """What it left; None where that is gone. Of a repetition, what the first time left."""
    operation_id: bytes | None
    """Of the event that it left; None if there was nothing to change."""
    repeated: bool = False
    """It had been carried out before, under the same idempotency key."""
    cascaded: tuple[StreamId, ...] = ()
    """What was deleted with it."""

    @property
    def left_event(self) -> bool:
        """Whether it has left an event now."""
        return self.operation_id is not None and not self.repeated


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchResult:
    """What became of each command of a batch, in order."""

    items: tuple[Done | Problem, ...]

    @property
    def done(self) -> int:
        """How many were carried out."""
        return sum(isinstance(item, Done) for item in self.items)

    @property
    def left_event(self) -> bool:
        """Whether any of them has left an event now."""
        return any(isinstance(item, Done) and item.left_event for item in self.items)
