"""What every use case is given: the ports, filled in. ``resources/wiring.py`` builds one from settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from penstock.batch.guard_policy import GuardPolicy
from penstock.identity.ids import TargetId
from penstock.ports.clock import Clock
from penstock.ports.control import ControlStore
from penstock.ports.object_store import ObjectStore
from penstock.ports.rows import BatchReader
from penstock.ports.scratch import Scratch
from penstock.ports.target import Target
from penstock.ports.tracing import NO_TRACER, Tracer
from penstock.publish.breaker import BreakerPolicy
from penstock.publish.queue import QueuePolicy
from penstock.publish.retention import RetentionPolicy
from penstock.publish.retry import RetryPolicy


@dataclass(frozen=True, kw_only=True)
class Platform:
    """The outside, as use cases see it."""

    objects: ObjectStore
    control: ControlStore
    batches: BatchReader
    targets: Mapping[TargetId, Target]
    clock: Clock
    scratch: Scratch
    """Where rows are spooled."""
    queue_policy: QueuePolicy = field(default_factory=QueuePolicy)
    guard_policy: GuardPolicy = field(default_factory=GuardPolicy)
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    breaker_policy: BreakerPolicy = field(default_factory=BreakerPolicy)
    next_window: NextWindow = field(default=lambda _target, _now: None)
    """When a target's next maintenance window begins; None where it has none."""
    verify_sample: int = 32
    """How many applied operations of each chunk are read back; -1 for all of them."""
    delete_extras: bool = False
    """Whether repairs delete what targets hold and nobody published, as far as guards let go."""
    requeues_per_minute: int = 10_000
    """How many dead letters may be requeued in a minute."""
    retention_policy: RetentionPolicy = field(default_factory=RetentionPolicy)
    tracer: Tracer = NO_TRACER
    """Who is told what each batch goes through."""
    lease_s: float = 30.0
    chunk_operations: int = 10_000


NextWindow = Callable[[TargetId, datetime], datetime | None]
Progress = Callable[[str, int, int], None]
"""Called with a step (``plan``, ``execute``), how much is done and how much there is in all."""


def no_progress(_step: str, _done: int, _total: int) -> None:
    """Show nothing: the :data:`Progress` of callers that do not look."""
