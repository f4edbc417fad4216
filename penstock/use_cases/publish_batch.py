"""Publishing one batch on an operator's word: through the same queue, in the order of its lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from penstock.errors import NotFound, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, TargetId
from penstock.publish.state import WAITING, PublishState, PublishStatus
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.platform import Platform, Progress
from penstock.use_cases.publish import publish_next, republish
from penstock.use_cases.publish_reports import recorded_report
from penstock.use_cases.reports import PublishReport

SETTLED = frozenset({PublishStatus.COMPLETE, PublishStatus.FAILED})
_POLL_S = 0.5


def publish_batch(
    platform: Platform,
    batch: BatchId,
    worker_id: str,
    *,
    run_id: str | None = None,
    wait_s: float = 600.0,
    on_report: Callable[[PublishReport], None] | None = None,
    progress: Progress | None = None,
) -> list[PublishReport]:
    """Publish a batch to all its targets now, again if it has been before; returns a report for each target.

    Older batches that wait in the same lane go first, and are reported to ``on_report``. Raises ``NotFound`` for one
    that never landed, ``PenstockError`` if the lane stays busy elsewhere for ``wait_s`` seconds.
    """
    reports = []
    for state in _admitted_states(platform, batch):
        if state.status in SETTLED:
            republish(platform, batch, state.target_id)
        work = _One(platform, batch, state.target_id, worker_id, run_id, progress)
        for report in work.until_settled(wait_s):
            if report.state.batch_id == batch:
                reports.append(report)
            if on_report is not None:
                on_report(report)
    return reports


def _admitted_states(platform: Platform, batch: BatchId) -> list[PublishState]:
    """Return a batch's publish states, looking for it in the object store if it is not admitted yet."""
    cursor = ""
    while not (states := platform.control.list_states(batch=batch)):
        found = discover_batches(platform, cursor)
        if not found.admitted and not found.dead_letters:
            raise NotFound(f"batch {batch!r} has not landed: materialize its batch partition first")
        cursor = found.cursor
    return states


class _One:
    def __init__(
        self,
        platform: Platform,
        batch: BatchId,
        target: TargetId,
        worker_id: str,
        run_id: str | None,
        progress: Progress | None,
    ) -> None:
        self.platform, self.batch, self.target = platform, batch, target
        self.worker_id, self.run_id, self.progress = worker_id, run_id, progress

    def until_settled(self, wait_s: float) -> Iterator[PublishReport]:
        give_up_at = self.platform.clock.monotonic_s() + wait_s
        while True:
            report = self._publish([(self.batch, self.target)]) or self._publish(self._older())
            if report is not None:
                yield report
                if report.state.batch_id == self.batch:
                    return
                continue
            state = self.platform.control.get_state(self.batch, self.target)
            if state.status in SETTLED:  # another worker has done it meanwhile
                yield recorded_report(self.platform, state)
                return
            if self.platform.clock.monotonic_s() > give_up_at:
                raise PenstockError(
                    f"batch {self.batch!r} is still {state.status} for target {self.target!r} after {wait_s:g} s: "
                    "`penstock queue --explain` says what it waits for"
                )
            self.platform.clock.sleep(_POLL_S)

    def _publish(self, only: list[tuple[BatchId, TargetId]]) -> PublishReport | None:
        if not only:
            return None
        return publish_next(
            self.platform, self.worker_id, only=only, progress=self.progress, run_id=self.run_id
        )

    def _older(self) -> list[tuple[BatchId, TargetId]]:
        source, timestamp = ids.split_batch_id(self.batch)
        waiting = self.platform.control.list_states(
            source=source, target=self.target, statuses=sorted(WAITING)
        )
        return [(s.batch_id, s.target_id) for s in waiting if s.source_timestamp < timestamp]
