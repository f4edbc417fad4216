"""Alerts on dead letters, over HTTP to a real endpoint: one for a cause, not again for a while, and no data in them."""

from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

from penstock.use_cases.alerting import alert_new_dead_letters
from resources.alerts import AppriseAlerts, BadAlertUrl
from tests.fixtures.inbox import Inbox
from tests.fixtures.memory import Bench, person


def test_one_message_for_a_cause_and_not_again_for_a_while(bench: Bench, inbox: Inbox) -> None:
    """Two failures of one cause are one message; new ones wait until the time is up; nothing is repeated."""
    alerts = AppriseAlerts([inbox.url])
    bench.target.poison |= {"crm/secret-a", "crm/secret-b", "crm/c"}
    bench.land([person("crm/secret-a", v=1), person("crm/secret-b", v=1), person("crm/ok")])
    bench.publish()
    assert alert_new_dead_letters(bench.platform, alerts, every_s=3600) == 1
    assert alert_new_dead_letters(bench.platform, alerts, every_s=3600) == 0
    (message,) = inbox.messages
    assert message["title"] == "Penstock: 2 dead letters, poison"
    assert "penstock dead-letters --fingerprint" in message["message"]
    assert "secret" not in json.dumps(message)
    bench.clock.sleep(60)
    bench.land([person("crm/c", v=1), person("crm/ok")])
    bench.publish()
    assert alert_new_dead_letters(bench.platform, alerts, every_s=3600) == 0
    bench.clock.sleep(3600)
    assert alert_new_dead_letters(bench.platform, alerts, every_s=3600) == 1
    assert len(inbox.messages) == 2


def test_an_alert_that_reached_nobody_is_tried_again(bench: Bench, inbox: Inbox) -> None:
    """A server that is down loses no alert, and fails nothing."""
    alerts = AppriseAlerts([inbox.url])
    bench.target.poison.add("crm/a")
    bench.land([person("crm/a")])
    bench.publish()
    inbox.status = 500
    assert alert_new_dead_letters(bench.platform, alerts, every_s=3600) == 0
    inbox.status = 200
    assert alert_new_dead_letters(bench.platform, alerts, every_s=3600) == 1


def test_a_url_of_no_service_is_refused_without_being_shown() -> None:
    """The error counts the URLs, because one may hold a password."""
    with pytest.raises(BadAlertUrl, match="URL 1 of PENSTOCK_ALERT_URLS") as raised:
        AppriseAlerts([SecretStr("nonsense://user:hunter2@x")])
    assert "hunter2" not in str(raised.value)
