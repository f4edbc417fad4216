"""Publishing one batch on an operator's word: through the same queue, in the order of its lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from penstock.errors import LanePaused, NotFound, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, TargetId
from penstock.publish.state import IN_HAND, SETTLED, WAITING, PublishState
from penstock.use_cases.acts import By
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.operate import republish
from penstock.use_cases.platform import Platform, Progress
from penstock.use_cases.publish import publish_next
from penstock.use_cases.publish_reports import recorded_report
from penstock.use_cases.reports import PublishReport

_POLL_S = 0.5


def publish_batch(
    platform: Platform,
    batch: BatchId,
    worker_id: str,
    *,
    by: By,
    run_id: str | None = None,
    wait_s: float = 600.0,
    on_report: Callable[[PublishReport], None] | None = None,
    progress: Progress | None = None,
) -> list[PublishReport]:
    """Publish a batch to all its targets now, again if it has been before; returns a report for each target.

    To publish it again is an act, which the audit log has ``by`` whom. Older batches that wait in the same lane go
    first, and are reported to ``on_report``. Raises ``NotFound`` for one that never landed, ``LanePaused`` if its
    source or a target of it is paused (with nothing done, if it is so at the beginning), ``PenstockError`` if the lane
    stays busy elsewhere for ``wait_s`` seconds.
    """
    reports = []
    states = _admitted_states(platform, batch)
    for state in states:
        _refuse_paused(platform, state)
    for state in states:
        if state.status in SETTLED:
            republish(platform, batch, state.target_id, by=by)
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


def _refuse_paused(platform: Platform, state: PublishState) -> None:
    """Raise ``LanePaused`` for what would wait for somebody's word; what a worker has in hand ends all the same."""
    leases = platform.control.list_leases(now=platform.clock.now())
    if state.status in IN_HAND and state.batch_id in {lease.batch_id for lease in leases}:
        return
    for pause in platform.control.list_pauses():
        if pause.holds(state.source_id, state.target_id):
            raise LanePaused(
                f"batch {state.batch_id!r} cannot be published to target {state.target_id!r}: {pause.scope} "
                f"{pause.scope_id} was paused by {pause.paused_by} at {pause.paused_at:%Y-%m-%d %H:%M:%S} UTC "
                f"({pause.reason}). `penstock resume {pause.scope} {pause.scope_id}` lets it go on; then ask again"
            )


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
            _refuse_paused(self.platform, state)
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
