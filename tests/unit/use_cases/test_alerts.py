"""Alerts over a platform in memory: found, told by route, and told again only for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from pydantic import SecretStr

from penstock.batch.source import SourceSpec
from penstock.events.alerts import AlertPolicy, AlertRoute
from penstock.identity.ids import TenantId
from penstock.use_cases.alerts import AlertDesk, tell_of_alerts
from resources.control_db.alert_book import SqlAlertBook
from resources.control_db.metrics import SqlMetrics
from resources.control_db.store import SqlControlStore
from tests.fixtures.memory import SOURCE, TARGET, Bench, person


class Mailbox:
    """What one route was told."""

    def __init__(self) -> None:
        self.titles: list[str] = []
        self.bodies: list[str] = []
        self.works = True

    def send(self, title: str, body: str) -> bool:
        if self.works:
            self.titles.append(title)
            self.bodies.append(body)
        return self.works


def desk_of(bench: Bench, boxes: Sequence[Mailbox], routes: Sequence[AlertRoute]) -> AlertDesk:
    control = bench.platform.control
    assert isinstance(control, SqlControlStore)
    control.sync_sources([SourceSpec(source_id=SOURCE, tenant_id=TenantId("acme"))])
    return AlertDesk(
        book=SqlAlertBook.from_engine(control.engine),
        metrics=SqlMetrics.from_engine(control.engine),
        routes=routes,
        senders=boxes,
        runbooks="https://runbooks",
        policy=AlertPolicy(queue_batches=2),
    )


@pytest.fixture
def boxes() -> list[Mailbox]:
    """A mailbox for the tenant acme, and one for another."""
    return [Mailbox(), Mailbox()]


@pytest.fixture
def desk(bench: Bench, boxes: list[Mailbox]) -> AlertDesk:
    """A desk with a route for each of two tenants."""
    urls = (SecretStr("json://x"),)
    routes = [AlertRoute(urls=urls, tenants=(name,)) for name in ("acme", "other")]
    return desk_of(bench, boxes, routes)


def test_dead_letters_are_told_once_to_their_tenant_alone(
    bench: Bench, desk: AlertDesk, boxes: list[Mailbox]
) -> None:
    """Two letters of one cause are one message to the tenant whose source it is, without any key in it."""
    bench.target.poison |= {"crm/secret-a", "crm/secret-b"}
    bench.land([person("crm/secret-a", v=1), person("crm/secret-b", v=1), person("crm/ok")])
    bench.publish()
    assert tell_of_alerts(bench.platform, desk).messages == 1
    assert tell_of_alerts(bench.platform, desk).messages == 0
    assert boxes[0].titles == ["Penstock [warning] 2 dead letters, poison"]
    assert boxes[0].bodies[0].endswith("What to do: https://runbooks#dead_letters")
    assert "secret" not in boxes[0].bodies[0]
    assert boxes[1].titles == []


def test_a_queue_that_builds_up_is_told_and_that_it_has_passed(
    bench: Bench, desk: AlertDesk, boxes: list[Mailbox]
) -> None:
    """Two batches wait where two are too many; once they are published, and a minute is over, it has passed."""
    bench.land([person("crm/a")])
    bench.clock.sleep(60)
    bench.land([person("crm/a")])
    tell_of_alerts(bench.platform, desk)
    assert boxes[0].titles == [f"Penstock [warning] 2 batches of {SOURCE} wait for target {TARGET}"]
    bench.publish()
    bench.publish()
    assert tell_of_alerts(bench.platform, desk).messages == 0
    bench.clock.sleep(61)
    assert tell_of_alerts(bench.platform, desk).messages == 1
    assert boxes[0].titles[1].startswith("Penstock [passed]")


def test_what_reached_nobody_is_tried_again(
    bench: Bench, desk: AlertDesk, boxes: list[Mailbox]
) -> None:
    """A route that does not answer loses no alert."""
    boxes[0].works = False
    bench.target.poison.add("crm/a")
    bench.land([person("crm/a")])
    bench.publish()
    assert tell_of_alerts(bench.platform, desk).failed == 1
    boxes[0].works = True
    assert tell_of_alerts(bench.platform, desk).messages == 1


def test_an_alert_that_goes_nowhere_is_not_looked_for_for_ever(
    bench: Bench, desk: AlertDesk
) -> None:
    """Without a route that takes it an alert stands in the book, and counts as told."""
    bench.target.poison.add("crm/a")
    bench.land([person("crm/a")])
    bench.publish()
    nobody = replace(desk, routes=(), senders=())
    assert tell_of_alerts(bench.platform, nobody).standing == 1
    (alert,) = desk.book.list_alerts(passed_since=bench.clock.now())
    assert alert.told_at is not None
