"""Publishing one batch on an operator's word: who asked is kept, and what would wait for a word says so at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from penstock.errors import LanePaused, NotFound, PenstockError
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.ports.pauses import Pause, PauseScope
from penstock.publish.state import PublishStatus
from penstock.use_cases.acts import By
from penstock.use_cases.operate import pause, resume
from penstock.use_cases.publish_batch import publish_batch
from penstock.use_cases.reports import PublishReport
from tests.fixtures.memory import SOURCE, TARGET, Bench, person

ADA = By(actor="ada", reason="the disk is full")


def publish(bench: Bench, batch: BatchId, **options: Any) -> list[PublishReport]:
    """Publish a batch on ada's word."""
    return publish_batch(bench.platform, batch, "worker", by=ADA, **options)


def test_publishing_again_is_an_act_and_publishing_first_is_none(bench: Bench) -> None:
    """Only who takes a target to a batch that has ended already is in the audit log."""
    batch = bench.land([person("crm/a")]).batch_id
    publish(bench, batch)
    assert bench.control.list_acts() == []
    (report,) = publish(bench, batch)
    assert report.state.status is PublishStatus.COMPLETE
    (act,) = bench.control.list_acts()
    assert (act.actor, act.act, act.subject) == ("ada", "batch.republish", batch)
    assert act.reason == "the disk is full"


@pytest.mark.parametrize("scope", PauseScope)
@pytest.mark.parametrize("settled", [False, True])
def test_what_is_paused_fails_at_once(bench: Bench, scope: PauseScope, settled: bool) -> None:
    """The error names the pause, who made it, why, and the way on; nothing was waited for, and nothing done."""
    batch = bench.land([person("crm/a")]).batch_id
    if settled:
        publish(bench, batch)
    name = SOURCE if scope is PauseScope.SOURCE else TARGET
    pause(bench.platform, scope, name, by=ADA)
    before, start = bench.control.list_states(), bench.clock.now()
    with pytest.raises(
        LanePaused, match=rf"paused by ada at .*the disk is full.*`penstock resume {scope} {name}`"
    ):
        publish(bench, batch)
    assert bench.control.list_states() == before
    assert bench.clock.now() - start < timedelta(seconds=1)
    resume(bench.platform, scope, name, by=ADA)
    assert publish(bench, batch)[0].state.status is PublishStatus.COMPLETE


def test_what_others_paused_is_no_matter(bench: Bench) -> None:
    """A pause of another source or target keeps nothing back here."""
    batch = bench.land([person("crm/a")]).batch_id
    for scope, name in ((PauseScope.SOURCE, "erp"), (PauseScope.TARGET, "wiki")):
        other = Pause(
            scope=scope, scope_id=name, paused_at=bench.clock.now(), paused_by="ada", reason="x"
        )
        bench.control.pause(other)
        assert not other.holds(SourceId("crm"), TargetId("model"))
    assert publish(bench, batch)[0].state.status is PublishStatus.COMPLETE


def test_a_pause_in_the_middle_ends_the_wait(bench: Bench, monkeypatch: Any) -> None:
    """Another worker has the lane: it is waited for, until it gives the batch back and a pause keeps it there."""
    batch = bench.land([person("crm/a")]).batch_id
    claim = bench.control.claim(
        "other", now=bench.clock.now(), lease_s=1.0, policy=bench.platform.queue_policy
    )
    assert claim is not None
    pause(bench.platform, PauseScope.SOURCE, SOURCE, by=ADA)
    start = bench.clock.now()
    with pytest.raises(LanePaused):
        publish(bench, batch)
    assert timedelta(seconds=1) <= bench.clock.now() - start < timedelta(seconds=5)


def test_a_lane_that_stays_busy_is_given_up(bench: Bench) -> None:
    """After the time that is given, it says what the batch is and where to look."""
    bench.land([person("crm/a")])
    batch = bench.land([person("crm/b")]).batch_id
    bench.control.claim(
        "other", now=bench.clock.now(), lease_s=1e6, policy=bench.platform.queue_policy
    )
    with pytest.raises(PenstockError, match=r"still PENDING .* after 30 s: `penstock queue"):
        publish(bench, batch, wait_s=30)


def test_one_that_never_landed_is_an_error(bench: Bench) -> None:
    """There is nothing to publish."""
    with pytest.raises(NotFound, match="has not landed"):
        publish(bench, BatchId("crm@2026-01-01T00-00-00.000000Z"))
