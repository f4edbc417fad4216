"""What operators do to the queue: prioritise, pause, resume, requeue, cancel, republish.

Each act and its entry in the audit log are one transaction. Of two operators at once exactly one act wins; the other
gets an error that says how things stand, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import assert_never

from penstock.batch.manifest import Mode
from penstock.errors import IllegalMove, NotFound, NothingToDo, PenstockError
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.queue import QueuePlace, QueuePolicy
from penstock.publish.state import FOLLOW_UPS, WAITING, Intent, PublishState, PublishStatus
from penstock.use_cases import publish
from penstock.use_cases.acts import By
from penstock.use_cases.platform import Platform
from penstock.use_cases.queries import queue_places

_AHEAD = 1.0
"""Points by which a batch that has to go first is ahead of all others."""
_ROUNDING = 1e-6


@dataclass(frozen=True, kw_only=True)
class Acted:
    """What came of an act on batches."""

    states: tuple[PublishState, ...]
    """As they are now; first the one that was named."""
    notes: tuple[str, ...] = ()
    """What its operator has to know of what follows."""


# Prioritise -------------------------------------------------------------------------------------------------


def prioritise(
    platform: Platform, batch: BatchId, target: TargetId, *, by: By, boost: float | None = None
) -> Acted:
    """Give a waiting batch a boost; without one, so much that it goes first.

    To go first, the batches before it in its lane are boosted with it, since it cannot pass them. Raises
    ``IllegalMove`` for what does not wait or will fail as superseded, ``NothingToDo`` where it is so already.
    """
    state = platform.control.get_state(batch, target)
    if boost is not None:
        return _boosted(platform, state, [(state, boost)], by)
    if state.status not in WAITING:
        return _boosted(platform, state, [(state, state.priority_boost)], by)
    _refuse_superseded(platform, state, state.intent, "it will fail when its turn comes")
    if not platform.queue_policy.boost_weight:
        raise PenstockError(
            "the queue policy gives boosts no weight, so that none puts a batch first: set boost_weight in "
            "PENSTOCK_QUEUE_POLICY"
        )
    boosts = boosts_to_be_first(queue_places(platform), state, platform.queue_policy)
    return _boosted(platform, state, boosts, by)


def boosts_to_be_first(
    places: Sequence[QueuePlace], state: PublishState, policy: QueuePolicy
) -> list[tuple[PublishState, float]]:
    """Return what to boost, and how much, so that a batch comes before all of other lanes, and of fresh batches.

    Last is the batch itself; before it what has to go before it in its lane. Raises ``NothingToDo`` if all is so.
    """
    lane = (state.source_id, state.target_id)
    others = [p.score.total for p in places if (p.state.source_id, p.state.target_id) != lane]
    wanted = max([*others, _most_when_fresh(policy)]) + _AHEAD
    boosts = []
    for place in places:
        if (place.state.source_id, place.state.target_id) != lane:
            continue
        # What a dead worker left in hand cannot be boosted; it goes before the others of its lane anyway.
        if place.state.status in WAITING and place.score.total < wanted - _ROUNDING:
            missing = (wanted - place.score.total) / policy.boost_weight
            boosts.append((place.state, place.state.priority_boost + missing))
        if place.state.batch_id == state.batch_id:
            break
    if not boosts:
        raise NothingToDo(
            f"batch {state.batch_id!r} goes before all other sources' batches for target {state.target_id!r} already"
        )
    return boosts


def _most_when_fresh(policy: QueuePolicy) -> float:
    """Return the points that a batch can have at most as it comes in, without an operator's boost."""
    ruled = sum(max(0.0, rule.points) for rule in policy.boosts)
    return policy.importance_weight + policy.deadline_weight + ruled


def _boosted(
    platform: Platform, named: PublishState, boosts: Sequence[tuple[PublishState, float]], by: By
) -> Acted:
    after = [_boost(platform, state, boost, named, by) for state, boost in boosts]
    others = [state for state in after if not _same(state, named)]
    notes = []
    if others:
        notes.append(f"batches before it in its lane that were boosted with it: {len(others)}")
    places = queue_places(platform)
    place = next((p for p in places if _same(p.state, named)), None)
    if place is not None:
        waits = f", and waits for {place.waits_for}" if place.waits_for else ""
        notes.append(f"it is number {place.place} of {len(places)} in the queue{waits}")
    now = platform.control.get_state(named.batch_id, named.target_id)
    return Acted(states=(now, *others), notes=tuple(notes))


def _boost(
    platform: Platform, state: PublishState, boost: float, named: PublishState, by: By
) -> PublishState:
    before = state.priority_boost
    if isfinite(boost) and boost == before and state.status in WAITING:
        raise NothingToDo(
            f"batch {state.batch_id!r} has a boost of {boost:g} for target {state.target_id!r} already"
        )
    details = {"target_id": state.target_id, "before": before, "after": boost}
    if not _same(state, named):
        details["so_that_first"] = named.batch_id
    return platform.control.boost(
        state.batch_id,
        state.target_id,
        boost,
        expected=before,
        act=by.entry(
            "batch.prioritise",
            state.batch_id,
            now=platform.clock.now(),
            source=state.source_id,
            details=details,
        ),
    )


def _same(state: PublishState, other: PublishState) -> bool:
    return (state.batch_id, state.target_id) == (other.batch_id, other.target_id)


# Pause and resume -------------------------------------------------------------------------------------------


def scope_of(text: str) -> PauseScope:
    """Read what is to be paused, or raise ``NotFound`` with what can be."""
    if text not in list(PauseScope):
        raise NotFound(f"{text!r} cannot be paused: name a {' or a '.join(PauseScope)}")
    return PauseScope(text)


def pause(platform: Platform, scope: PauseScope, scope_id: str, *, by: By) -> Pause:
    """Have nothing more claimed of a source, or for a target; what is in hand ends.

    Raises ``NothingToDo`` if it is paused already, ``UndeclaredSource`` or ``NotFound`` where there is no such thing.
    """
    match scope:
        case PauseScope.SOURCE:
            return pause_source(platform, ids.source_id(scope_id), by=by)
        case PauseScope.TARGET:
            return pause_target(platform, ids.target_id(scope_id), by=by)
        case _:
            assert_never(scope)


def pause_source(platform: Platform, source: SourceId, *, by: By) -> Pause:
    """Have nothing more claimed of a source; what is in hand ends. Raises ``NothingToDo`` if it is paused."""
    if not platform.control.list_batches(source=source, limit=1):
        platform.control.get_source(source)
    return _pause(platform, PauseScope.SOURCE, source, by)


def pause_target(platform: Platform, target: TargetId, *, by: By) -> Pause:
    """Have nothing more claimed for a target; what is in hand ends. Raises ``NothingToDo`` if it is paused."""
    if target not in platform.targets and not platform.control.list_states(target=target, limit=1):
        raise NotFound(
            f"there is no target {target!r}: there are {', '.join(sorted(platform.targets))}"
        )
    return _pause(platform, PauseScope.TARGET, target, by)


def _pause(platform: Platform, scope: PauseScope, scope_id: str, by: By) -> Pause:
    pause = Pause(
        scope=scope,
        scope_id=scope_id,
        paused_at=platform.clock.now(),
        paused_by=by.actor,
        reason=by.why(f"pause {scope} {scope_id}"),
    )
    act = by.entry(
        f"{scope}.pause", scope_id, now=pause.paused_at, source=_source_of(scope, scope_id)
    )
    if not platform.control.pause(pause, act=act):
        raise NothingToDo(f"{scope} {scope_id} is paused already{_who(platform, scope, scope_id)}")
    return pause


def resume(platform: Platform, scope: PauseScope, scope_id: str, *, by: By) -> None:
    """Have a paused source or target go on; raises ``NothingToDo`` if it is not paused."""
    act = by.entry(
        f"{scope}.resume", scope_id, now=platform.clock.now(), source=_source_of(scope, scope_id)
    )
    if not platform.control.resume(scope, scope_id, act=act):
        raise NothingToDo(f"{scope} {scope_id} is not paused: `penstock pauses` lists what is")


def _source_of(scope: PauseScope, scope_id: str) -> SourceId | None:
    return ids.source_id(scope_id) if scope is PauseScope.SOURCE else None


def _who(platform: Platform, scope: PauseScope, scope_id: str) -> str:
    for pause in platform.control.list_pauses():
        if (pause.scope, pause.scope_id) == (scope, scope_id):
            return (
                f", by {pause.paused_by} at {pause.paused_at:%Y-%m-%d %H:%M:%S} UTC: {pause.reason}"
            )
    return ""


# Requeue, republish, cancel ---------------------------------------------------------------------------------


def requeue(platform: Platform, batch: BatchId, target: TargetId, *, by: By) -> Acted:
    """Put a FAILED batch back in the queue, to do what it was to do; its retries begin anew.

    Raises ``IllegalMove`` for any other, and for one that is older than what its target has: a republish goes back.
    """
    state = platform.control.get_state(batch, target)
    if state.status is PublishStatus.COMPLETE:
        raise IllegalMove(
            f"batch {batch!r} is COMPLETE for target {target!r}: to publish it again, republish it"
        )
    intent = Intent.REPUBLISH if state.intent is Intent.REPUBLISH else Intent.PUBLISH
    what_now = "it would fail again; to go back to it on purpose, republish it"
    _refuse_superseded(platform, state, intent, what_now)
    after = platform.control.requeue(
        batch,
        target,
        now=platform.clock.now(),
        intent=intent,
        act=by.entry(
            "batch.requeue",
            batch,
            now=platform.clock.now(),
            source=state.source_id,
            details={"target_id": target, "intent": str(intent), "failed_with": _code_of(state)},
        ),
    )
    return Acted(states=(after,), notes=_what_it_waits_for(platform, after))


def republish(platform: Platform, batch: BatchId, target: TargetId, *, by: By) -> Acted:
    """Put a COMPLETE or FAILED batch back in the queue, even if its target has newer ones: the way back, or forward.

    Raises ``IllegalMove`` for one that is on its way already.
    """
    state = platform.control.get_state(batch, target)
    act = by.entry(
        "batch.republish",
        batch,
        now=platform.clock.now(),
        source=state.source_id,
        details={"target_id": target, "was": str(state.status)},
    )
    after = publish.republish(platform, batch, target, act=act)
    return Acted(states=(after,), notes=_what_it_waits_for(platform, after))


def cancel(platform: Platform, batch: BatchId, target: TargetId, *, by: By) -> Acted:
    """Take a waiting batch out of the queue: it is FAILED as ``cancelled``; a follow-up leaves its batch as it stood.

    Raises ``IllegalMove`` for what is in hand, settled, or half of a follow-up.
    """
    reason = by.why(f"cancel batch {batch}")
    state = platform.control.get_state(batch, target)
    begun = platform.control.begun_executions(state.source_id, target)
    act = by.entry(
        "batch.cancel",
        batch,
        now=platform.clock.now(),
        source=state.source_id,
        details={"target_id": target, "intent": str(state.intent), "was": str(state.status)},
    )
    after = platform.control.cancel(
        batch, target, now=platform.clock.now(), message=f"{by.actor}: {reason}", act=act
    )
    half = any(each.batch_id == batch for each in begun)
    return Acted(states=(after,), notes=tuple(_what_is_left_out(platform, state, half)))


def _what_is_left_out(platform: Platform, before: PublishState, half: bool) -> list[str]:
    if before.intent in FOLLOW_UPS:
        return [f"its {before.intent} was taken back: the batch stands as it stood"]
    notes = []
    if platform.control.get_batch(before.batch_id).manifest.mode is Mode.DELTA:
        notes.append(
            "its changes are left out: the deltas after it go on without them, and a newer full batch makes up for "
            "them. To have them after all, requeue it before the next batch is published"
        )
    if half:
        notes.append(
            "it was half executed: what has taken effect stays, and the snapshot will say so before the next batch of "
            "its lane is executed"
        )
    return notes


def _refuse_superseded(
    platform: Platform, state: PublishState, intent: Intent, what_now: str
) -> None:
    head = platform.control.snapshot_head(state.source_id, state.target_id)
    older = head is not None and state.source_timestamp < head.source_timestamp
    if head is not None and older and intent is Intent.PUBLISH:
        raise IllegalMove(
            f"target {state.target_id!r} has a newer batch of source {state.source_id} than {state.batch_id!r}, of "
            f"{head.source_timestamp:%Y-%m-%d %H:%M:%S} UTC: {what_now}"
        )


def _code_of(state: PublishState) -> str | None:
    return state.failure_details.error_code if state.failure_details else None


def _what_it_waits_for(platform: Platform, state: PublishState) -> tuple[str, ...]:
    for place in queue_places(platform):
        if _same(place.state, state) and place.waits_for:
            return (f"it waits for {place.waits_for}",)
    return ()
