"""``penstock drift``: what targets hold otherwise than was published, and its repair."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By, Limit, Source, Target

if TYPE_CHECKING:
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
    every: Annotated[bool, typer.Option("--all", help="Settled findings, too.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List findings, and how far the audit of each source and target has come."""
    if context.invoked_subcommand is not None:
        return
    from penstock.ports.drift import DriftStatus
    from penstock.use_cases.drift_audit import drift_coverage

    platform = showing.platform()
    found = platform.control.list_drift(
        source=showing.source(source), status=None if every else DriftStatus.OPEN, limit=limit
    )
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

    made = table(
        "looked at", "source", "target", "rows", "every row since", "open", numbers=["rows", "open"]
    )
    for each in found:
        since = each.oldest_turn_finished_at
        made.add_row(
            cell(each.source_id),
            cell(each.target_id),
            cell(f"{each.rows:,}"),
            cell(f"{since:%Y-%m-%d %H:%M}" if since else "not yet"),
            cell(f"{each.open:,}"),
        )
    yield made


def _reports(found: Sequence[DriftReport]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    names = ("checked", "missing", "differing", "left to people")
    made = table("looked at", "source", "target", *names, numbers=names)
    for each in found:
        counts = (each.checked, each.missing, each.differing, each.left)
        made.add_row(
            cell(each.source_id), cell(each.target_id), *(cell(f"{count:,}") for count in counts)
        )
    yield made if found else "nothing has been published yet"
