"""The jobs that look after what was published: the drift audit, and alerts on dead letters."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import dagster as dg
import pyarrow as pa
import pytest
from sqlalchemy import create_engine, text

from jobs.drift import drift_audit, drift_schedule
from penstock.batch.source import SourceDefinition
from penstock.identity.ids import TargetId
from penstock.ports.control import ControlStore
from penstock.ports.drift import DriftStatus
from penstock.ports.target import TargetDown, Unavailable
from penstock.publish.state import Intent, PublishStatus
from platform_assets import definitions
from resources.dagster_resources import PlatformResource
from resources.targets.sql_table import SqlTableTarget
from sensors.dead_letter_alerts import alert_schedules, dead_letter_alerts
from tests.contracts.control_values import NOW
from tests.definitions.publishing import CRM, collect_now, publish_now, resources, tick
from tests.fixtures.inbox import Inbox

WAREHOUSE = TargetId("warehouse")


@pytest.fixture
def warehouse(
    tmp_path: Path, declared: tuple[SourceDefinition, ...], monkeypatch: pytest.MonkeyPatch
) -> str:
    """A database that the declared source goes to, by URL."""
    url = f"sqlite:///{tmp_path / 'warehouse.db'}"
    monkeypatch.setenv("PENSTOCK_SQL_TARGETS", json.dumps({WAREHOUSE: url}))
    monkeypatch.setenv("PENSTOCK_DRIFT_PERIOD_S", "60")  # so that every look is of all rows
    crm = replace(declared[0], spec=replace(declared[0].spec, targets=(WAREHOUSE,)))
    for module in ("platform_assets.sources", "jobs.collect", "sensors.s3_batches"):
        monkeypatch.setattr(f"{module}.declared_sources", lambda: (crm,))
    return url


@pytest.fixture
def edited(instance: dg.DagsterInstance, warehouse: str) -> str:
    """The warehouse, in which somebody changed a person that had been published."""
    collect_now(instance)
    tick(instance)
    publish_now(instance)
    edit(warehouse)
    return warehouse


def edit(url: str) -> None:
    """Change ada by hand."""
    engine = create_engine(url)
    with engine.begin() as connection:
        statement = "UPDATE penstock_entities SET attributes = :a WHERE key = 'crm/ada'"
        assert connection.execute(text(statement), {"a": '{"v":"by hand"}'}).rowcount == 1
    engine.dispose()


def held(url: str) -> str:
    """What the warehouse holds of ada."""
    engine = create_engine(url)
    with engine.connect() as connection:
        query = text("SELECT attributes FROM penstock_entities WHERE key = 'crm/ada'")
        found = str(connection.execute(query).scalar_one())
    engine.dispose()
    return found


def audit(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Run the drift audit once."""
    return drift_audit.execute_in_process(instance=instance, resources=resources())


def test_what_drifted_is_repaired_by_the_next_publish(
    instance: dg.DagsterInstance, edited: str
) -> None:
    """The audit finds it and asks for a repair, the sensor wakes a publish run, and that puts it right."""
    assert audit(instance).success
    control = PlatformResource().open().control
    (state,) = control.list_states(source=CRM)
    assert (state.status, state.intent) == (PublishStatus.PENDING, Intent.REPAIR)
    assert tick(instance).run_requests
    publish_now(instance)
    assert held(edited) == "{}"
    (finding,) = control.list_drift()
    assert finding.status is DriftStatus.REPAIRED


def test_what_drifted_is_listed_where_a_person_decides(
    instance: dg.DagsterInstance, edited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With PENSTOCK_DRIFT_REPAIR=list nothing is put in the queue; the run says what was found."""
    monkeypatch.setenv("PENSTOCK_DRIFT_REPAIR", "list")
    assert audit(instance).success
    control = PlatformResource().open().control
    (state,) = control.list_states(source=CRM)
    assert state.status is PublishStatus.COMPLETE
    (finding,) = control.list_drift(status=DriftStatus.OPEN)
    assert (finding.key, finding.finding) == ("crm/ada", "differs")
    assert held(edited) == '{"v":"by hand"}'


def test_a_target_that_is_away_fails_no_run(
    instance: dg.DagsterInstance, edited: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look comes to nothing, and the next one finds what there is."""

    def gone(*_asked: object) -> pa.Table:
        raise TargetDown(Unavailable(message="no route"))

    with monkeypatch.context() as away:
        away.setattr(SqlTableTarget, "read_back", gone)
        assert audit(instance).success
    assert PlatformResource().open().control.list_drift() == []
    assert audit(instance).success
    assert len(PlatformResource().open().control.list_drift()) == 1


def test_it_looks_four_times_an_hour() -> None:
    """The schedule is on without anybody turning it on, and the code location has it."""
    assert drift_schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert drift_schedule.cron_schedule == "*/15 * * * *"
    assert definitions.defs.resolve_schedule_def("drift_audit_schedule").job_name == "drift_audit"


def fail_a_batch(control: ControlStore) -> None:
    """Record the dead letter of a batch."""
    control.record_dead_letter(
        subject="crm@x", where="plan", source_id=CRM, code="boom", message="full", now=NOW
    )


def alerts(instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """Send the alerts that are due."""
    return dead_letter_alerts.execute_in_process(instance=instance, resources=resources())


@pytest.mark.usefixtures("declared")
def test_without_anybody_to_tell_nobody_is_told(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No URL, no schedule; launched by hand, the run succeeds and marks nothing as told."""
    monkeypatch.delenv("PENSTOCK_ALERT_URLS", raising=False)
    assert alert_schedules() == []
    control = PlatformResource().open().control
    fail_a_batch(control)
    assert alerts(instance).success
    assert len(control.unalerted_groups(silent_since=NOW)) == 1


@pytest.mark.usefixtures("declared")
def test_new_letters_are_told_of_once(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, inbox: Inbox
) -> None:
    """With a URL the schedule runs every five minutes; one run tells, the next has nothing to tell."""
    monkeypatch.setenv("PENSTOCK_ALERT_URLS", json.dumps([inbox.url.get_secret_value()]))
    (schedule,) = alert_schedules()
    assert (schedule.cron_schedule, schedule.job_name) == ("*/5 * * * *", "dead_letter_alerts")
    fail_a_batch(PlatformResource().open().control)
    for _ in range(2):
        assert alerts(instance).success
    assert [message["title"] for message in inbox.messages] == ["Penstock: a dead letter, boom"]
