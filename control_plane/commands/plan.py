"""``penstock plan --dry-run`` and ``penstock plan compare``: plans that are looked at and not executed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, Limit, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.use_cases.dry_run import PlanComparison
    from penstock.use_cases.queries import PlanOverview


def plan(
    context: typer.Context,
    dry: Annotated[
        str | None,
        typer.Option("--dry-run", help="Plan this batch now, and do nothing.", metavar="BATCH"),
    ] = None,
    target: Target = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Look at plans; with --dry-run BATCH, at the one that publishing a batch would have now."""
    if context.invoked_subcommand is not None:
        return
    if dry is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)
    from control_plane import answers
    from penstock.use_cases.dry_run import dry_run
    from penstock.use_cases.queries import batch_id_of

    found = dry_run(
        showing.platform(), batch_id_of(dry), target=showing.target(target), operations=limit
    )
    showing.show(answers.plan(found), as_json, lambda: _planned(found))


def compare(
    first: Annotated[str, typer.Argument(help="Batch id.", metavar="A")],
    second: Annotated[str, typer.Argument(help="Batch id.", metavar="B")],
    target: Target = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """Compare what the plans of two batches do; a batch without a plan is planned for it, and nothing is stored."""
    from penstock.use_cases.dry_run import compare_plans
    from penstock.use_cases.queries import batch_id_of

    found = compare_plans(
        showing.platform(),
        batch_id_of(first),
        batch_id_of(second),
        target=showing.target(target),
        differences=limit,
    )
    showing.show(found, as_json, lambda: _compared(found))


def _planned(found: PlanOverview) -> Iterator[RenderableType]:
    from control_plane import plan_tables
    from control_plane.tables import cell, table

    yield from plan_tables.plan(found)
    if found.document.holds:
        made = table("would be held", "guard", "type", "action", "held", "sample", numbers=["held"])
        for hold in found.document.holds:
            made.add_row(
                cell(hold.guard),
                cell(hold.type_name),
                cell(hold.action),
                cell(f"{hold.operations:,}"),
                cell("\n".join(hold.sample)),
            )
        yield made
    yield "nothing was done: this was a dry run"


def _compared(found: PlanComparison) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    for name, side in (("A", found.first), ("B", found.second)):
        how = "as stored" if side.stored else "as it would be planned now"
        yield f"{name} is {side.batch_id} to {side.target_id}: {side.operations:,} operations, {how}"
    numbers = ("only A", "only B", "differ", "same")
    made = table("by type", "kind", "type", *numbers, numbers=numbers)
    for each in found.types:
        counts = (each.only_first, each.only_second, each.differ, each.same)
        made.add_row(cell(each.kind), cell(each.type_name), *(cell(n or "") for n in counts))
    yield made
    if found.differences:
        made = table(f"the first {len(found.differences):,} differences", "of", "A", "B")
        for difference in found.differences:
            ends = "" if difference.to_key is None else f" -> {difference.to_key}"
            made.add_row(
                cell(f"{difference.type_name} {difference.key}{ends}"),
                cell(difference.first or ""),
                cell(difference.second or ""),
            )
        yield made
