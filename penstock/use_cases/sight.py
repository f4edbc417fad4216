"""What one caller may see of the platform: a tenant's sources and what is theirs, or everything.

What is another tenant's is answered as what nobody has, word for word.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from penstock.errors import NotFound
from penstock.identity.ids import BatchId, SourceId, TargetId, TenantId
from penstock.ports.control import BatchRecord
from penstock.ports.dead_letters import DeadLetter, LetterFilter
from penstock.publish.state import PublishState
from penstock.use_cases.platform import Platform
from penstock.use_cases.queries import state_of


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The sight of one caller, for one request."""

    platform: Platform
    tenant: TenantId | None
    """None for one who sees all."""

    @cached_property
    def sources(self) -> frozenset[SourceId] | None:
        """The sources that are there for the caller; None for all, declared or not."""
        if self.tenant is None:
            return None
        specs = self.platform.control.list_sources()
        return frozenset(spec.source_id for spec in specs if spec.tenant_id == self.tenant)

    def has(self, source: str | None) -> bool:
        """Say whether what is of a source, or of none, is there for the caller."""
        return self.sources is None or source in self.sources

    def source(self, source: SourceId) -> SourceId:
        """Return a source that is there, or raise ``NotFound``."""
        known = self.has(source)
        if known and self.sources is None:
            declared = {spec.source_id for spec in self.platform.control.list_sources()}
            known = source in declared or bool(
                self.platform.control.list_batches(source=source, limit=1)
            )
        if not known:
            raise NotFound(f"there is no source {source!r}")
        return source

    def batch(self, batch: BatchId) -> BatchRecord:
        """Return a batch that is there, or raise ``NotFound``."""
        record: BatchRecord | None
        try:
            record = self.platform.control.get_batch(batch)
        except NotFound:
            record = None
        if record is None or not self.has(record.manifest.source_id):
            raise NotFound(f"there is no batch {batch!r}")
        return record

    def state(self, batch: BatchId, target: TargetId | None) -> PublishState:
        """Return a batch's publish state; without a target the only one there is, or an error that names them."""
        self.batch(batch)
        return state_of(self.platform, batch, target)

    def letter(self, dead_letter_id: str) -> DeadLetter:
        """Return a dead letter that is there, or raise ``NotFound``."""
        letter: DeadLetter | None
        try:
            letter = self.platform.control.get_dead_letter(dead_letter_id)
        except NotFound:
            letter = None
        if letter is None or not self.has(letter.source_id):
            raise NotFound(f"there is no dead letter {dead_letter_id!r}")
        return letter

    def letters(self, chosen: LetterFilter) -> LetterFilter:
        """Return a filter narrowed down to what is there for the caller."""
        return replace(chosen, sources=self.sources)

    def targets(self) -> list[TargetId]:
        """Return the targets that the caller's sources go to; all that are configured for one who sees all."""
        if self.sources is None:
            return sorted(self.platform.targets)
        specs = self.platform.control.list_sources()
        return sorted({t for spec in specs if self.has(spec.source_id) for t in spec.targets})
