"""``penstock prioritise|boost|pause|resume|pauses|requeue|republish|cancel``: what operators do to the queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, Batch, By, Reason, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.identity.ids import BatchId, TargetId
    from penstock.ports.pauses import Pause
    from penstock.use_cases.operate import Acted
    from penstock.use_cases.platform import Platform

Why = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")
]
Scope = Annotated[str, typer.Argument(help="`source` or `target`.", metavar="source|target")]
ScopeId = Annotated[str, typer.Argument(help="Its id.", metavar="ID")]


def prioritise(
    batch: Batch,
    points: Annotated[
        float | None,
        typer.Option("--boost", help="Boost to have, in points; without it, enough to go first."),
    ] = None,
    target: Target = None,
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Have a waiting batch claimed sooner: before all others, or by a boost of so many points."""
    from penstock.use_cases import operate

    signed = showing.signed(by, reason)
    _on_batch(
        batch,
        target,
        as_json,
        lambda p, b, t: operate.prioritise(p, b, t, by=signed, boost=points),
    )


def boost(
    batch: Batch,
    points: Annotated[float, typer.Argument(help="Added to its score; may be negative.")],
    target: Target = None,
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Set the boost of a waiting batch, as `prioritise --boost` does; 0 takes it away."""
    prioritise(batch, points, target, by, reason, as_json)


def pause(
    scope: Scope, scope_id: ScopeId, reason: Reason, by: By = None, as_json: AsJson = False
) -> None:
    """Have nothing more claimed of a source, or for a target; what is in hand ends."""
    from penstock.use_cases import operate

    platform, signed = showing.platform(), showing.signed(by, reason)
    operate.pause(platform, operate.scope_of(scope), scope_id, by=signed)
    _show_pauses(platform, as_json)


def resume(
    scope: Scope, scope_id: ScopeId, by: By = None, reason: Why = None, as_json: AsJson = False
) -> None:
    """Have a paused source or target go on."""
    from penstock.use_cases import operate

    platform = showing.platform()
    operate.resume(platform, operate.scope_of(scope), scope_id, by=showing.signed(by, reason))
    _show_pauses(platform, as_json)


def pauses(as_json: AsJson = False) -> None:
    """List what is paused, by whom and why."""
    _show_pauses(showing.platform(), as_json)


def requeue(
    batch: Batch, target: Target = None, by: By = None, reason: Why = None, as_json: AsJson = False
) -> None:
    """Put a FAILED batch back in the queue; its retries begin anew."""
    from penstock.use_cases import operate

    signed = showing.signed(by, reason)
    _on_batch(batch, target, as_json, lambda p, b, t: operate.requeue(p, b, t, by=signed))


def republish(
    batch: Batch, target: Target = None, by: By = None, reason: Why = None, as_json: AsJson = False
) -> None:
    """Put a COMPLETE or FAILED batch back in the queue, to be planned and published again, even if newer ones were."""
    from penstock.use_cases import operate

    signed = showing.signed(by, reason)
    _on_batch(batch, target, as_json, lambda p, b, t: operate.republish(p, b, t, by=signed))


def cancel(
    batch: Batch, reason: Reason, target: Target = None, by: By = None, as_json: AsJson = False
) -> None:
    """Take a waiting batch out of the queue."""
    from penstock.use_cases import operate

    signed = showing.signed(by, reason)
    _on_batch(batch, target, as_json, lambda p, b, t: operate.cancel(p, b, t, by=signed))


def _on_batch(
    batch: str,
    target: str | None,
    as_json: bool,
    act: Callable[[Platform, BatchId, TargetId], Acted],
) -> None:
    from control_plane import tables
    from penstock.use_cases.queries import batch_id_of, state_of

    platform = showing.platform()
    state = state_of(platform, batch_id_of(batch), showing.target(target))
    acted = act(platform, state.batch_id, state.target_id)

    def shown() -> Iterator[RenderableType]:
        yield from tables.states(acted.states, whole=False)
        yield from acted.notes

    showing.show({"publish_states": acted.states, "notes": acted.notes}, as_json, shown)


def _show_pauses(platform: Platform, as_json: bool) -> None:
    found = platform.control.list_pauses()
    showing.show({"pauses": found}, as_json, lambda: _pauses(found))


def _pauses(found: Sequence[Pause]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    if not found:
        yield "nothing is paused"
        return
    made = table("paused", "what", "since", "by", "because")
    for each in found:
        what = f"{each.scope} {each.scope_id}"
        made.add_row(cell(what), cell(each.paused_at), cell(each.paused_by), cell(each.reason))
    yield made
