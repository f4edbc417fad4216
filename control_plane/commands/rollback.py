"""``penstock rollback``: take back what a batch did."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, Batch, By, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.use_cases.rollback import Rollback


def rollback(
    batch: Batch,
    target: Target = None,
    take: Annotated[
        list[str] | None,
        typer.Option(
            "--take",
            help="Roll this key back in spite of a conflict; may be repeated.",
            metavar="KEY",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.")] = "",
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Land the inverse of what a batch did at a target; it is planned and guarded like any batch."""
    from penstock.use_cases.queries import batch_id_of, state_of
    from penstock.use_cases.rollback import rollback as roll_back

    platform = showing.platform()
    state = state_of(platform, batch_id_of(batch), showing.target(target))
    found = roll_back(
        platform,
        state.batch_id,
        state.target_id,
        by=showing.actor(by),
        reason=reason,
        take=take or (),
        dry_run=dry_run,
    )
    showing.show(found, as_json, lambda: _shown(found))


def _shown(found: Rollback) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table(
        f"rollback of {found.batch_id} at {found.target_id}",
        "rows restored",
        "rows removed",
        "conflicts left",
        "conflicts taken",
        numbers=["rows restored", "rows removed", "conflicts left", "conflicts taken"],
    )
    counts = (found.restored, found.removed, found.conflicts, found.taken)
    made.add_row(*(cell(f"{count:,}") for count in counts))
    yield made
    if found.listed:
        listed = table(
            "changed since, and left alone (--take KEY to roll it back)",
            "type",
            "key",
            "the batch had",
        )
        for conflict in found.listed[:50]:
            to = f" -> {conflict.to_key}" if conflict.to_key else ""
            listed.add_row(
                cell(conflict.type_name), cell(conflict.key + to), cell(f"{conflict.action}d it")
            )
        yield listed
    if found.correction is not None:
        yield f"landed as batch {found.correction.batch_id}, which is in the queue"
    else:
        yield "nothing was done: this was a dry run"
