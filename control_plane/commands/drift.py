"""``penstock drift``: what targets hold otherwise than was published, and its repair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By, Limit, Source, Target

if TYPE_CHECKING:
    from datetime import datetime

    from rich.console import RenderableType

    from penstock.ports.drift import Drift
    from penstock.use_cases.drift_audit import DriftCoverage, DriftReport

app = typer.Typer(
    help="Look at what targets hold otherwise than was published.", invoke_without_command=True
)
Name = Annotated[str, typer.Argument(help="Source id.", metavar="SOURCE")]


@app.callback()
def drift(
    context: typer.Context,
    source: Source = None,
    every: Annotated[
        bool, typer.Option("--all", help="What is left to people, and what is settled, too.")
    ] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List what waits for a repair and what nobody published, and how far the audit of each lane has come."""
    if context.invoked_subcommand is not None:
        return
    from penstock.use_cases.drift_audit import drift_coverage, drift_findings

    platform = showing.platform()
    found = drift_findings(platform, source=showing.source(source), every=every, limit=limit)
    coverage = drift_coverage(platform)
    answer = {"findings": found, "coverage": coverage}
    showing.show(answer, as_json, lambda: [*_findings(found), *_coverage(coverage)])


@app.command("check")
def check(
    source: Name,
    target: Target = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Every row now, not only what is due.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Look at the next rows of a source's targets, or at all of them."""
    from penstock.use_cases.drift_audit import audit_lane
    from resources.settings import Settings

    platform = showing.platform()
    period_s = Settings.from_env().drift_period_s
    spec = platform.control.get_source(showing.source(source))  # type: ignore[arg-type]
    wanted = showing.target(target)
    reports = [
        audit_lane(platform, spec.source_id, each, period_s=period_s, everything=everything)
        for each in spec.targets
        if wanted in {None, each} and platform.control.snapshot_head(spec.source_id, each)
    ]
    showing.show(reports, as_json, lambda: _reports(reports))


@app.command("repair")
def repair(
    source: Name,
    target: Target = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Why.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Put a source's newest batch in the queue to repair what was found."""
    from control_plane import answers, tables
    from penstock.errors import PenstockError
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.drift_audit import repair_lane

    platform = showing.platform()
    spec = platform.control.get_source(showing.source(source))  # type: ignore[arg-type]
    wanted = showing.target(target)
    if wanted is None and len(spec.targets) > 1:
        names = ", ".join(spec.targets)
        raise PenstockError(f"source {source!r} goes to several targets: name one of {names}")
    signed = Signed(actor=showing.actor(by), reason=reason)
    state = repair_lane(platform, spec.source_id, wanted or spec.targets[0], by=signed)
    showing.show(answers.states([state]), as_json, lambda: tables.states([state], whole=False))


def _findings(found: Sequence[Drift]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    if not found:
        yield "no findings"
        return
    made = table("drift", "source and target", "type", "key", "finding", "fields", "status")
    for each in found:
        to = f" -> {each.to_key}" if each.to_key else ""
        fields = ", ".join(f"{field['name']} {field['is']}" for field in each.fields)
        made.add_row(
            cell(f"{each.source_id}\n{each.target_id}"),
            cell(each.type_name),
            cell(each.key + to),
            cell(each.finding),
            cell(fields),
            cell(each.status),
        )
    yield made


def _coverage(found: Sequence[DriftCoverage]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    columns = ("rows", "every row since", "all held since", "open", "left", "extra")
    made = table("looked at", "source and target", *columns, numbers=["rows", *columns[3:]])
    for each in found:
        listed = _since(each.oldest_listing_finished_at) if each.lists else "cannot list"
        made.add_row(
            cell(f"{each.source_id}\n{each.target_id}"),
            cell(f"{each.rows:,}"),
            cell(_since(each.oldest_turn_finished_at)),
            cell(listed),
            *(cell(f"{count:,}") for count in (each.open, each.left)),
            cell(f"{each.extra:,}" if each.lists else "?"),
        )
    yield made


def _since(moment: datetime | None) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else "not yet"


def _reports(found: Sequence[DriftReport]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    if not found:
        yield "nothing has been published yet"
        return
    names = ("checked", "missing", "differing", "left to people", "listed", "extra")
    made = table("looked at", "source", "target", *names, numbers=names)
    for each in found:
        counts = (each.checked, each.missing, each.differing, each.left)
        listed = ("cannot list", "?") if each.listed is None else (each.listed, each.extra)
        made.add_row(
            cell(each.source_id),
            cell(each.target_id),
            *(cell(f"{count:,}") for count in counts),
            *(cell(count if isinstance(count, str) else f"{count:,}") for count in listed),
        )
    yield made
