"""Forecasts, SLAs and incidents over HTTP, and what the loop does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from control_plane.service.forecasting import forecasting_of
from control_plane.service.loops.forecasts import EVERY_S, run_once
from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import ControlServer
from tests.fixtures.status_world import fill

NEW = {"title": "Planned work", "text": "On Sunday.", "source": "crm", "reason": "a new disk"}
ACME: dict[str, Any] = {"role": "viewer", "tenant": "acme"}


@pytest.fixture
def served(control: ControlServer) -> ControlServer:
    """A server with two tenants."""
    fill(forecasting_of(control.services), days=6)
    return control


def test_forecasts_are_of_ones_own(served: ControlServer) -> None:
    """Those who run the platform see every forecast and why; a tenant its own, without its place among others."""
    everything = served.request("GET", "/forecasts", role="viewer").json()["items"]
    assert {each["source_id"] for each in everything} == {"crm", "secret_merger"}
    assert all(each["explanation"] and each["place"] for each in everything)
    answer = served.request("GET", "/forecasts", **ACME)
    (mine,) = answer.json()["items"]
    assert (mine["source_id"], mine["place"], mine["explanation"]) == ("crm", None, "")
    assert mine["p50_at"] <= mine["p90_at"]
    assert 0 < mine["breach_probability"] < 1
    assert "secret_merger" not in answer.text
    asked = served.request("GET", "/forecasts?source=secret_merger", **ACME)
    assert asked.json()["items"] == []


def test_slas_are_of_ones_own(served: ControlServer) -> None:
    """A source's SLA is told by windows, with what is left of its budget."""
    items = served.request("GET", "/slas", **ACME).json()["items"]
    assert [each["source_id"] for each in items] == ["crm", "warehouse"]
    week = next(window for window in items[0]["windows"] if window["window_s"] == 7 * 86_400)
    assert (week["due"], week["late"], week["attainment"]) == (5, 2, 0.6)
    assert week["budget_left"] < 0


def test_incidents_are_opened_told_and_ended_by_operators(served: ControlServer) -> None:
    """An operator opens an incident, tells how it stands and ends it; each act is signed, and trying again is noted."""
    assert served.request("POST", "/incidents", role="viewer", json=NEW).status_code == 403
    opened = served.request("POST", "/incidents", tenant="acme", json=NEW)
    assert opened.status_code == 201
    path = f"/incidents/{opened.json()['incident_id']}"
    soon = {"text": "Soon.", "phase": "identified"}
    told = served.request("POST", f"{path}/messages", tenant="acme", json=soon)
    assert (told.json()["phase"], len(told.json()["messages"])) == ("identified", 2)
    over = {"text": "Done.", "phase": "resolved", "reason": "it works"}
    ended = served.request("POST", f"{path}/messages", tenant="acme", json=over)
    assert ended.json()["resolved_by"] == "ada"
    again = served.request("POST", f"{path}/messages", tenant="acme", json=over)
    assert (again.status_code, again.json()["code"]) == (409, "nothing_to_do")
    acts = served.services.audit.list_acts(subject=opened.json()["incident_id"])
    assert [(act.act, act.actor, act.reason) for act in acts] == [
        ("command.refused", "ada", None),
        ("incident.resolve", "ada", "it works"),
        ("incident.update", "ada", None),
        ("incident.open", "ada", "a new disk"),
    ]


def test_another_tenants_incident_is_not_there(served: ControlServer) -> None:
    """Reading, telling and opening across tenants are refused as what does not exist."""
    new = {**NEW, "source": None}
    theirs = served.request("POST", "/incidents", tenant="other", json=new)
    path = f"/incidents/{theirs.json()['incident_id']}"
    body = {"text": "Mine now."}
    for answer in (
        served.request("GET", path, **ACME),
        served.request("GET", f"/incidents/{'0' * 32}", **ACME),
        served.request("POST", f"{path}/messages", tenant="acme", json=body),
        served.request("POST", "/incidents", tenant="acme", json={**NEW, "tenant": "other"}),
    ):
        assert answer.status_code == 404
    listed = served.request("GET", "/incidents", **ACME).json()["items"]
    assert {each["tenant_id"] for each in listed} == {"acme"}
    foreign = {**NEW, "tenant": "other", "source": "crm"}
    assert served.request("POST", "/incidents", json=foreign).status_code == 422


def test_the_loop_finds_what_is_wrong_and_when_it_is_over(
    served: ControlServer, clock: FixedClock
) -> None:
    """A batch past its SLA opens an incident that says so in numbers; once it is gone, the incident ends by itself."""
    assert run_once(served.services) == EVERY_S
    (late,) = [each for each in _open(served) if each["kind"] == "sla_breach"]
    assert late["tenant_id"] == "other"
    assert "530 minutes ago (SLA 600 s)" in late["explanation"]
    control = served.services.platform.control
    (state,) = control.list_states(source=late["source_id"])
    control.cancel(state.batch_id, state.target_id, now=clock.now(), message="not wanted")
    run_once(served.services)
    assert any(each["kind"] == "sla_breach" for each in _open(served))
    clock.moment += timedelta(minutes=6)
    run_once(served.services)
    assert not any(each["kind"] == "sla_breach" for each in _open(served))


def _open(served: ControlServer) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = served.request("GET", "/incidents?open=true").json()["items"]
    return found
