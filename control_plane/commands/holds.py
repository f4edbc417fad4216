"""``penstock holds``, ``approve`` and ``reject``: what guards hold, and the decisions about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, Batch, By, Limit, Reason, Source, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.ports.approvals import Approval
    from penstock.use_cases.holds import HeldBatch

app = typer.Typer(
    help="Look at what guards hold until someone decides.", invoke_without_command=True
)
Plan = Annotated[
    str,
    typer.Option("--plan", help="Digest of the plan, or its first 8 digits.", metavar="DIGEST"),
]


@app.callback()
def holds(
    context: typer.Context,
    source: Source = None,
    every: Annotated[
        bool, typer.Option("--all", help="Those that were decided or superseded, too.")
    ] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List batches with something held, newest first."""
    if context.invoked_subcommand is not None:
        return
    from penstock.use_cases.holds import list_holds

    found = list_holds(
        showing.platform(), source=showing.source(source), live_only=not every, limit=limit
    )
    showing.show(found, as_json, lambda: _listed(found))


@app.command("show")
def show(batch: Batch, target: Target = None, as_json: AsJson = False) -> None:
    """Show what is held of one batch, with a sample and what stands behind it."""
    from penstock.use_cases.holds import show_hold
    from penstock.use_cases.queries import batch_id_of, state_of

    platform = showing.platform()
    found = show_hold(platform, state_of(platform, batch_id_of(batch), showing.target(target)))
    showing.show(found, as_json, lambda: _shown(found))


def approve(
    batch: Batch,
    plan: Plan,
    reason: Reason,
    by: By = None,
    expires: Annotated[
        float, typer.Option("--expires", help="Hours that the approval counts.", min=0.01)
    ] = 24.0,
    target: Target = None,
    as_json: AsJson = False,
) -> None:
    """Approve what guards hold of one plan: it is executed, that and nothing else."""
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.holds import approve_hold
    from penstock.use_cases.queries import batch_id_of, state_of

    platform = showing.platform()
    state = state_of(platform, batch_id_of(batch), showing.target(target))
    done = approve_hold(
        platform,
        state.batch_id,
        state.target_id,
        plan,
        by=Signed(actor=showing.actor(by), reason=reason),
        expires_in_s=expires * 3600,
    )
    showing.show(done, as_json, lambda: _decisions([done]))


def reject(
    batch: Batch,
    plan: Plan,
    reason: Reason,
    by: By = None,
    target: Target = None,
    as_json: AsJson = False,
) -> None:
    """Decide that what guards hold of one plan is not wanted."""
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.holds import reject_hold
    from penstock.use_cases.queries import batch_id_of, state_of

    platform = showing.platform()
    state = state_of(platform, batch_id_of(batch), showing.target(target))
    done = reject_hold(
        platform,
        state.batch_id,
        state.target_id,
        plan,
        by=Signed(actor=showing.actor(by), reason=reason),
    )
    showing.show(done, as_json, lambda: _decisions([done]))


def _listed(found: Sequence[HeldBatch]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table(
        "batches with something held", "batch", "target", "plan", "guards", "held", numbers=["held"]
    )
    for held in found:
        guards = ", ".join(sorted({hold.guard for hold in held.holds}))
        if held.superseded_by is not None:
            guards += f" (superseded by {held.superseded_by})"
        made.add_row(
            cell(held.state.batch_id),
            cell(held.state.target_id),
            cell(held.plan_digest),
            cell(guards),
            cell(f"{held.state.held:,}"),
        )
    yield made if found else "nothing is held"


def _shown(held: HeldBatch) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table(
        f"held of {held.state.batch_id}, plan {held.plan_digest}",
        "guard",
        "type",
        "action",
        "held",
        "entities behind",
        "relationships behind",
        "sample",
        numbers=["held", "entities behind", "relationships behind"],
    )
    for hold in held.holds:
        made.add_row(
            cell(hold.guard if hold.releasable else f"{hold.guard} (for good)"),
            cell(hold.type_name),
            cell(hold.action),
            cell(f"{hold.operations:,}"),
            cell(_behind(hold.entities_behind)),
            cell(_behind(hold.relationships_behind)),
            cell("\n".join(hold.sample[:5])),
        )
    yield made
    if held.superseded_by is not None:
        yield f"superseded by {held.superseded_by}, which planned it again: decide on that one"
    elif not held.decisions:
        yield (
            f"to let it go on: penstock approve {held.state.batch_id} --plan {held.plan_digest[:8]} "
            '--reason "..."'
        )
    yield from _decisions(held.decisions)


def _behind(count: int | None) -> str:
    return "too many to count" if count is None else f"{count:,}"


def _decisions(found: Sequence[Approval]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    if not found:
        return
    made = table("decisions", "decided", "by", "decision", "status", "expires", "reason")
    for each in found:
        expires = f"{each.expires_at:%Y-%m-%d %H:%M}" if each.expires_at else ""
        status = each.status if each.settled_why is None else f"{each.status}: {each.settled_why}"
        made.add_row(
            cell(f"{each.decided_at:%Y-%m-%d %H:%M}"),
            cell(each.approver),
            cell(each.decision),
            cell(status),
            cell(expires),
            cell(each.reason),
        )
    yield made
