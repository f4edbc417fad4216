"""``penstock eta``, ``slas`` and ``incidents``: when batches come, whether in time, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By, Limit, Source, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.forecast.eta import Eta
    from penstock.forecast.incidents import Incident, Phase, Severity
    from penstock.forecast.sla import SlaReport, Tally
    from penstock.ports.forecasts import Reliability
    from penstock.use_cases.forecasting import Forecasting

incident_app = typer.Typer(help="Act on incidents that customers see.", no_args_is_help=True)
Tenant = Annotated[str | None, typer.Option("--tenant", help="Only this tenant.", metavar="TENANT")]
IncidentId = Annotated[str, typer.Argument(help="Incident id.", metavar="INCIDENT")]
Why = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")
]
Text = Annotated[str, typer.Option("--text", help="What customers read.", metavar="TEXT")]


def eta(
    batch: Annotated[str | None, typer.Argument(help="Batch id.", metavar="[BATCH]")] = None,
    source: Source = None,
    target: Target = None,
    as_json: AsJson = False,
) -> None:
    """Forecast when what is on its way will be there: p50, p90, and how likely it misses its SLA."""
    from penstock.use_cases.forecasting import batch_eta, batch_etas, forecast_reliability
    from penstock.use_cases.queries import batch_id_of

    forecasting = _forecasting()
    if batch is not None:
        found = [batch_eta(forecasting, batch_id_of(batch), showing.target(target))]
    else:
        found = batch_etas(forecasting, source=showing.source(source))
    held = forecast_reliability(forecasting)
    showing.show({"forecasts": found, "reliability": held}, as_json, lambda: _etas(found, held))


def slas(as_json: AsJson = False) -> None:
    """Show what share of each source's batches came in time, and how fast the rest is used up."""
    from penstock.use_cases.forecasting import sla_reports

    found = sla_reports(_forecasting())
    showing.show({"slas": found}, as_json, lambda: _slas(found))


def incidents(
    tenant: Tenant = None,
    source: Source = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first: what rules found, and what operators told customers."""
    from penstock.identity import ids
    from penstock.use_cases.forecasting import incidents as listed

    found = listed(
        _forecasting(),
        tenant=ids.tenant_id(tenant) if tenant else None,
        source=showing.source(source),
        open_only=not every,
        limit=limit,
    )
    showing.show({"incidents": found}, as_json, lambda: _incidents(found))


@incident_app.command("open")
def open_(
    title: Annotated[str, typer.Argument(help="For customers, in one line.", metavar="TITLE")],
    text: Text,
    tenant: Annotated[str, typer.Option("--tenant", help="Whose it is.", metavar="TENANT")],
    source: Source = None,
    severity: Annotated[
        str, typer.Option("--severity", help="info, warning or critical.", metavar="SEVERITY")
    ] = "warning",
    private: Annotated[
        bool, typer.Option("--private", help="Keep it off the status page.")
    ] = False,
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Open an incident; the tenant's status page shows it."""
    from penstock.identity import ids
    from penstock.use_cases.incident_acts import IncidentReport, open_incident

    report = IncidentReport(
        tenant_id=ids.tenant_id(tenant),
        title=title,
        text=text,
        severity=_severity(severity),
        source_id=showing.source(source),
        public=not private,
    )
    done = open_incident(_forecasting(), report, by=showing.signed(by, reason))
    showing.show(done, as_json, lambda: _incidents([done]))


@incident_app.command("update")
def update(
    incident: IncidentId,
    text: Text,
    phase: Annotated[
        str,
        typer.Option("--phase", help="investigating, identified or monitoring.", metavar="PHASE"),
    ] = "monitoring",
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Tell customers how an incident stands."""
    from penstock.use_cases.incident_acts import update_incident

    signed = showing.signed(by, reason)
    done = update_incident(_forecasting(), incident, phase=_phase(phase), text=text, by=signed)
    showing.show(done, as_json, lambda: _incidents([done]))


@incident_app.command("resolve")
def resolve(
    incident: IncidentId, text: Text, by: By = None, reason: Why = None, as_json: AsJson = False
) -> None:
    """End an incident with a last message to customers."""
    from penstock.use_cases.incident_acts import resolve_incident

    signed = showing.signed(by, reason)
    done = resolve_incident(_forecasting(), incident, text=text, by=signed)
    showing.show(done, as_json, lambda: _incidents([done]))


def _forecasting() -> Forecasting:
    from resources.settings import Settings
    from resources.wiring import open_forecasting

    return open_forecasting(Settings.from_env(), showing.platform())


def _severity(text: str) -> Severity:
    from penstock.errors import PenstockError
    from penstock.forecast.incidents import Severity

    if text not in set(Severity):
        raise PenstockError(f"there is no severity {text!r}: choose one of {', '.join(Severity)}")
    return Severity(text)


def _phase(text: str) -> Phase:
    from penstock.errors import PenstockError
    from penstock.forecast.incidents import Phase

    if text not in set(Phase):
        raise PenstockError(f"there is no phase {text!r}: choose one of {', '.join(Phase)}")
    return Phase(text)


def _etas(found: Sequence[Eta], held: Sequence[Reliability]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table("on their way", "batch", "target", "p50", "p90", "due", "late?", "why")
    for each in found:
        risk = each.breach_probability
        made.add_row(
            cell(each.batch_id),
            cell(each.target_id),
            cell(_moment(each.p50_at)),
            cell(_moment(each.p90_at)),
            cell(_moment(each.due_at)),
            cell(
                "" if risk is None else f"{100 * risk:.0f} %",
                "bold red" if risk and risk >= 0.5 else "",
            ),
            cell(each.explanation),
        )
    yield made if found else "nothing is on its way"
    if held:
        shares = ", ".join(
            f"{each.stage} {100 * each.within_p90 / each.forecasts:.0f} % of {each.forecasts:,}"
            for each in held
        )
        yield f"p90 held in the last 30 days: {shares}"


def _slas(found: Sequence[SlaReport]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table
    from penstock.forecast.sla import DAY_S, REPORTED_S, Tally

    windows = [f"{window // DAY_S} d" for window in REPORTED_S]
    made = table("in time", "source", "SLA", *windows, "budget left", "burn")
    for each in found:
        tallies = [each.tallies.get(window, Tally()) for window in REPORTED_S]
        made.add_row(
            cell(each.source_id),
            cell(f"{each.sla_s:,} s"),
            *(cell(_share(tally)) for tally in tallies),
            cell(f"{100 * tallies[-1].budget_left(each.objective):.0f} %"),
            cell(each.alert.words() if each.alert else "", "bold red"),
        )
    yield made if found else "no declared source has an SLA: give it `sla_s`"


def _share(tally: Tally) -> str:
    if tally.attainment is None:
        return "nothing was due"
    return f"{100 * tally.attainment:.1f} % of {tally.due:,}"


def _incidents(found: Sequence[Incident]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table("incidents", "id", "opened", "tenant", "what", "severity", "phase", "title", "why")
    for each in found:
        said = each.messages[-1].text if each.messages else each.explanation
        made.add_row(
            cell(each.incident_id),
            cell(_moment(each.opened_at)),
            cell(each.tenant_id),
            cell(each.kind),
            cell(each.severity, "bold red" if each.severity == "critical" else ""),
            cell(each.phase),
            cell(each.title),
            cell(said),
        )
    yield made if found else "there are no incidents"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else ""
