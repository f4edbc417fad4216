"""What is asked for with a workflow: which sources, when, in what steps, and what happens if it goes wrong.

The pydantic models are public API: the body of ``POST /workflows``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Annotated, Self, assert_never

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    model_validator,
)

from penstock.batch.source import SourceSpec
from penstock.identity import ids
from penstock.identity.ids import SourceId, TenantId
from penstock.strict import Flag, Number, Whole
from penstock.workflow.awaited import AWAITED, AwaitedType, Origin
from penstock.workflow.status import Step, WorkflowKind

STEPS = (Step.COLLECT, Step.TRANSFORM, Step.PUBLISH)
"""In their order; a workflow has all of them, or the first ones."""
MOST_SOURCES = 1000
"""Sources that one workflow names."""
Capability = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.:-]{0,62}$")]
"""What a worker can do: by default the name of the step."""
_Source = Annotated[SourceId, AfterValidator(ids.source_id)]
_Prefix = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]


class TriggerPolicy(StrEnum):
    """What becomes of a trigger that fires while the workflow is paused, or its last turn is under way."""

    QUEUE = "queue"
    """It begins a turn afterwards."""
    DROP = "drop"
    """It is counted, and that is all."""


class Compensation(StrEnum):
    """How a step that is completed is undone."""

    ROLLBACK = "rollback"
    """Of ``publish``: the inverse of what the batch did at each target is published."""
    CANCEL = "cancel"
    """Of ``transform`` or ``publish``: what still waits in the queue of its batch is taken out."""


_UNDOES = {
    Step.COLLECT: frozenset[Compensation](),
    Step.TRANSFORM: frozenset({Compensation.CANCEL}),
    Step.PUBLISH: frozenset({Compensation.CANCEL, Compensation.ROLLBACK}),
}


class Selector(BaseModel):
    """Which declared sources of the workflow's tenant a turn is for; all that is given has to hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    source_prefix: _Prefix | None = None
    importance_at_least: Number = Field(default=0.0, ge=0)
    target: str | None = None
    """Only sources that are published there."""

    def selects(self, spec: SourceSpec) -> bool:
        """Say whether it selects a source."""
        named = self.source_prefix is None or spec.source_id.startswith(self.source_prefix)
        goes_there = self.target is None or self.target in spec.targets
        return named and goes_there and spec.importance >= self.importance_at_least


class EventTrigger(BaseModel):
    """Which events begin a turn: some that come in, and some that Penstock tells."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: AwaitedType
    """Those of a collection begin a turn once they have taken effect on their task."""
    subject: Annotated[str, StringConstraints(min_length=1, max_length=1024)] | None = None
    """Exactly, or with ``*`` at its end everything that begins so; without one, whatever it is about."""
    source: _Source | None = None
    """Only events about this source: the task's, where the event names a task."""
    only_its_source: Flag = False
    """Whether the turn is for the source alone that the event is about."""

    @model_validator(mode="after")
    def _about_a_source(self) -> Self:
        if not AWAITED[self.type].has_source and (self.source or self.only_its_source):
            raise ValueError(f"{self.type} is about no source")
        return self

    @property
    def is_of_work(self) -> bool:
        """Say whether it waits for what turns of workflows themselves bring about."""
        return AWAITED[self.type].origin is not Origin.OUTSIDE

    @property
    def is_told(self) -> bool:
        """Say whether it waits for what Penstock itself tells, and not for what comes in."""
        return not AWAITED[self.type].comes_in

    @property
    def only_subject(self) -> str | None:
        """The one subject that it waits for, or None if there may be several."""
        return None if self.subject is None or self.subject.endswith("*") else self.subject

    def matches(self, event_type: str, subject: str, source: str | None = None) -> bool:
        """Say whether an event about something, and maybe of a source, begins a turn."""
        if event_type != self.type or self.source not in (None, source):
            return False
        match self.subject:
            case None:
                return True
            case str() as wanted if wanted.endswith("*"):
                return subject.startswith(wanted[:-1])
            case _:
                return subject == self.subject


class TaskRetry(BaseModel):
    """How often a task is tried again, and how long after; delays are in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    tries: Whole = Field(default=3, ge=0, le=100)
    """After the first."""
    delay_s: Number = Field(default=5.0, gt=0, le=86_400)
    max_delay_s: Number = Field(default=300.0, gt=0, le=86_400)
    factor: Number = Field(default=2.0, ge=1, le=100)
    jitter_share: Number = Field(default=0.5, ge=0, le=1)
    """The part of a delay that chance may take off."""


class WorkflowSpec(BaseModel):
    """One workflow, as it is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=255)]
    kind: WorkflowKind = WorkflowKind.ON_DEMAND
    sources: tuple[_Source, ...] = Field(default=(), max_length=MOST_SOURCES)
    """Either these, or what ``selector`` selects as a turn begins."""
    selector: Selector | None = None
    steps: tuple[Step, ...] = STEPS
    priority: Number = Field(default=0.0, ge=-100, le=100)
    """Higher goes first."""
    deadline_s: Number | None = Field(default=None, gt=0, le=366 * 86_400)
    """Seconds from a turn's beginning by which it has to have ended."""
    cron: Annotated[str, StringConstraints(max_length=255)] | None = None
    """Of a scheduled one: a cron expression, in UTC."""
    event: EventTrigger | None = None
    """Of an event-driven one."""
    trigger_policy: TriggerPolicy = TriggerPolicy.QUEUE
    compensation: Mapping[Step, Compensation] = Field(default_factory=dict)
    capabilities: Mapping[Step, Capability] = Field(default_factory=dict)
    """What a worker has to be able to do for a step, where that is not the step's own name."""
    retry: TaskRetry = TaskRetry()

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.sources) == (self.selector is not None):
            raise ValueError("give either sources or a selector")
        if len(set(self.sources)) < len(self.sources):
            raise ValueError("sources names one twice")
        if not self.steps or self.steps != STEPS[: len(self.steps)]:
            raise ValueError(f"steps are the first ones of {', '.join(STEPS)}, in that order")
        for step, compensation in self.compensation.items():
            if step not in self.steps or compensation not in _UNDOES[step]:
                can = ", ".join(sorted(_UNDOES[step])) if step in self.steps else "nothing here"
                raise ValueError(
                    f"{compensation} does not undo {step}; what does: {can or 'nothing'}"
                )
        return self._with_its_trigger()

    def _with_its_trigger(self) -> Self:
        match self.kind:
            case WorkflowKind.SCHEDULED:
                right = self.cron is not None and self.event is None
                what = "a scheduled workflow has a cron expression and no event"
            case WorkflowKind.EVENT_DRIVEN:
                right = self.cron is None and self.event is not None
                what = "an event-driven workflow has an event and no cron expression"
            case WorkflowKind.ON_DEMAND | WorkflowKind.RECOVERY:
                right = self.cron is None and self.event is None
                what = f"a workflow of kind {self.kind} begins at once: it has no cron expression and no event"
            case _:
                assert_never(self.kind)
        if not right:
            raise ValueError(what)
        return self

    def capability(self, step: Step) -> str:
        """Return what a worker has to be able to do for a step."""
        return self.capabilities.get(step, str(step))

    def chosen(
        self, declared: Iterable[SourceSpec], tenant: TenantId, *, only: str | None = None
    ) -> list[SourceSpec]:
        """Return the declared sources of a tenant that a turn is for, by id; ``only`` narrows them to one."""
        named = frozenset(self.sources)
        return sorted(
            (
                spec
                for spec in declared
                if spec.tenant_id == tenant
                and (
                    spec.source_id in named
                    if self.selector is None
                    else self.selector.selects(spec)
                )
                and (only is None or spec.source_id == only)
            ),
            key=lambda spec: spec.source_id,
        )
