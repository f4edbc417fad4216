"""The retention job in Dagster: batches go, and their partitions with them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from jobs.retention import retention, retention_schedule
from penstock.identity import ids
from penstock.identity.ids import SourceId
from platform_assets.partitions import add_partitions, dynamic_name
from resources.settings import Settings
from resources.wiring import open_platform
from tests.definitions.publishing import CRM, collect_now, publish_now, resources, tick

pytestmark = pytest.mark.usefixtures("declared")


def test_partitions_go_with_their_batches(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the policy lets go is out of the control database and of Dagster; what it keeps is in both."""
    collect_now(instance)
    tick(instance)
    publish_now(instance)
    name = dynamic_name(CRM)
    old = ids.batch_id(SourceId(CRM), datetime(2020, 1, 1, tzinfo=UTC))
    add_partitions(instance, [old])
    before = set(instance.get_dynamic_partitions(name))
    monkeypatch.setenv("PENSTOCK_RETENTION_POLICY", json.dumps({"keep_days": 30}))
    ran = retention.execute_in_process(instance=instance, resources=resources())
    assert ran.success
    assert before - set(instance.get_dynamic_partitions(name)) == {
        ids.timestamp_text(datetime(2020, 1, 1, tzinfo=UTC))
    }
    platform = open_platform(Settings.from_env())
    assert platform.control.list_batches(source=CRM)
    assert platform.clock.now() - timedelta(days=30) > datetime(2020, 1, 1, tzinfo=UTC)


def test_it_runs_each_night() -> None:
    """The schedule is on without anybody turning it on."""
    assert retention_schedule.default_status is dg.DefaultScheduleStatus.RUNNING
    assert retention_schedule.cron_schedule == "17 3 * * *"
