"""The commands on events and destinations, over a real control database."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane import cli
from resources.control_db.inbox import SqlInbox
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import NOW
from tests.contracts.event_values import new_event, tell
from tests.contracts.test_inbox import arrival
from tests.fixtures.webhook import Hook

Run = Callable[..., Any]


@pytest.fixture
def store(
    new_control_url: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[SqlControlStore]:
    url = new_control_url("sqlite")
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path))
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", url)
    monkeypatch.setenv("PENSTOCK_WEBHOOK_LIMITS", '{"allowed_networks": ["127.0.0.0/8"]}')
    monkeypatch.setenv("COLUMNS", "160")
    made = SqlControlStore(url)
    yield made
    made.close()


@pytest.fixture
def run(
    store: SqlControlStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command that ends well, and return its document or its text."""

    def running(*arguments: str, status: int = 0, text: bool = False) -> Any:
        asked = arguments if text or status else (*arguments, "--json")
        monkeypatch.setattr(sys, "argv", ["penstock", *asked])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        assert (ended.value.code or 0) == status, captured.err
        if status:
            return captured.err
        return captured.out if text else json.loads(captured.out)

    return running


def test_events_are_listed(store: SqlControlStore, run: Run) -> None:
    """They come oldest first, by type, by tenant and after another; an unknown one is named."""
    first, _ = tell(store, new_event("a"), new_event("b"))
    assert [each["subject"] for each in run("events")["events"]] == ["a", "b"]
    after = run("events", "--after", first.event_id, "--tenant", "default")
    assert [each["subject"] for each in after["events"]] == ["b"]
    assert run("events", "--type", "batch_failed")["events"] == []
    assert "breaker_closed" in run("events", text=True)
    assert "no event 'x'" in run("events", "--after", "x", status=2)


def test_the_inbox_is_listed_and_requeued(store: SqlControlStore, run: Run) -> None:
    """What is dead is there with its error, and can be tried again, signed."""
    inbox = SqlInbox.from_engine(store.engine)
    inbox.accept([arrival("1", error="no JSON")], received_from="rabbitmq", now=NOW)
    (dead,) = run("events", "inbox", "--status", "dead")["events"]
    assert dead["error_message"] == "no JSON"
    assert "no JSON" in run("events", "inbox", text=True)
    why = ("--by", "kim", "--reason", "it is mended")
    again = run("events", "requeue", str(dead["position"]), *why)
    assert again["status"] == "waiting"
    assert [(a.actor, a.act) for a in store.list_acts()] == [("kim", "event.requeue")]
    assert "is no status" in run("events", "inbox", "--status", "lost", status=2)


def test_a_destination_s_life(store: SqlControlStore, run: Run, hook: Hook) -> None:
    """It is added with its secret told once, tried, looked at, disabled, enabled, replayed, rotated and removed."""
    added = run("destinations", "add", "hook", hook.url, "--type", "plan_held", "--by", "kim")
    hook.secret = added["secret"]
    assert run("destinations", "test", "hook")["error"] is None
    assert hook.events[0]["type"] == "penstock.test"
    assert added["secret"] not in run("destinations", text=True)
    assert "whsec" not in json.dumps(run("destinations"))
    assert run("destinations", "disable", "hook", "--reason", "it moves")["status"] == "disabled"
    assert run("destinations", "enable", "hook")["status"] == "enabled"
    run("destinations", "replay", "hook", "--since", "2026-01-01T00:00:00Z")
    assert run("destinations", "rotate", "hook")["secret"] != added["secret"]
    assert run("destinations", "deliveries", "hook")["deliveries"] == []
    assert "no moment" in run("destinations", "replay", "hook", "--since", "now", status=2)
    run("destinations", "remove", "hook", "--reason", "nobody reads it")
    assert run("destinations")["destinations"] == []
    assert "no destination" in run("destinations", "enable", "hook", status=2)


def test_what_cannot_be_added_is_refused(run: Run) -> None:
    """A private address, an unknown kind and an unknown type are named, and nothing is added."""
    for arguments, said in (
        (("hook", "https://10.0.0.1/"), "public"),
        (("hook", "https://example.org/", "--kind", "fax"), "no kind"),
        (("hook", "https://example.org/", "--type", "nonsense"), "no event"),
        (("NO", "https://example.org/"), "not a valid id"),
    ):
        assert said in run("destinations", "add", *arguments, status=2)
    assert run("destinations")["destinations"] == []
