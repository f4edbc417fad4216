"""The customers' status page over HTTP: what is shown, to whom, in which forms, and what is never told."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from control_plane.service.forecasting import forecasting_of
from penstock.forecast.incidents import Phase
from penstock.use_cases.acts import By
from penstock.use_cases.incident_acts import resolve_incident
from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import ControlServer, running_control, services_at
from tests.fixtures.status_world import ACME, BAD, fill

ATOM = "{http://www.w3.org/2005/Atom}"
SECRETS = (
    "secret_merger",
    "Nobody may know",
    "worker_secret_7",
    "hunter2",
    "operator_ada",
    "ticket 7",
)
FORMS = ("", ".json", ".atom")
MINE: dict[str, Any] = {"role": "viewer", "tenant": "acme"}


@pytest.fixture
def served(control: ControlServer) -> ControlServer:
    """A server with two tenants, neither public."""
    fill(forecasting_of(control.services), days=12)
    return control


def test_a_customer_sees_its_sources_and_nothing_else(served: ControlServer) -> None:
    """Page, JSON and feed tell of the tenant's own, and name nothing of others, of workers or of errors."""
    page, document, feed = (served.request("GET", f"/status/acme{form}", **MINE) for form in FORMS)
    for answer in (page, document, feed):
        assert answer.status_code == 200
        assert not [secret for secret in SECRETS if secret in answer.text]
    assert BAD not in page.text + feed.text
    assert "Status of acme" in page.text
    assert "nine times in ten by" in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"]
    shown = document.json()
    assert [s["source_id"] for s in shown["sources"]] == ["billing_archive", "crm", "warehouse"]
    _, crm, warehouse = shown["sources"]
    assert crm["status"] == "syncing"
    (batch,) = crm["on_its_way"]
    assert batch["p50_at"] <= batch["p90_at"]
    statuses = [day["status"] for day in crm["days"]]
    assert len(statuses) == 30
    assert (statuses.count("late"), statuses.count("good")) == (3, 8)
    assert warehouse["days"][-9]["status"] == "failed"
    assert shown["incidents"][0]["title"] == "Slower than usual this week"
    assert set(shown["incidents"][0]["messages"][0]) == {"at", "phase", "text"}


def test_what_is_not_there_and_what_is_not_yours_are_one(served: ControlServer) -> None:
    """Unknown, foreign and malformed tenants are told the same, byte for byte, with and without a token."""
    asking: tuple[dict[str, Any], ...] = ({"role": None}, {"role": "admin", "tenant": "acme"})
    for form in FORMS:
        for asked in asking:
            answers = [
                served.request("GET", f"/status/{tenant}{form}", **asked)
                for tenant in ("other", "nobody", "login", "UPPER")
            ]
            assert {answer.status_code for answer in answers} == {404}
            assert len({_without_csrf(answer.text) for answer in answers}) == 1
            headers = [{**answer.headers, "date": "", "set-cookie": ""} for answer in answers]
            assert all(each == headers[0] for each in headers)
    # To those who run the platform, a tenant that has nothing is not there either.
    assert served.request("GET", "/status/nobody", role="viewer").status_code == 404
    assert served.request("GET", "/status/other", role="viewer").status_code == 200


def _without_csrf(text: str) -> str:
    return re.sub(r'name="csrf" value="[^"]*"', "", text)


def test_a_page_is_public_by_choice(
    new_control_url: Callable[[str], str], tmp_path: Path, clock: FixedClock
) -> None:
    """A tenant that the setting names is seen without a token and may be kept by caches; the others are as before."""
    services = services_at(tmp_path, new_control_url("sqlite"), clock)
    public = services.settings.model_copy(update={"status_public": ["acme"]})
    with running_control(replace(services, settings=public)) as served:
        fill(forecasting_of(served.services), days=3)
        for form in FORMS:
            answer = served.request("GET", f"/status/acme{form}", role=None)
            assert answer.status_code == 200
            assert answer.headers["Cache-Control"] == "public, max-age=10"
            again = {"If-None-Match": answer.headers["ETag"]}
            kept = served.request("GET", f"/status/acme{form}", role=None, headers=again)
            assert (kept.status_code, kept.content) == (304, b"")
            assert served.request("GET", f"/status/other{form}", role=None).status_code == 404


def test_what_is_kept_stands_until_it_changes(served: ControlServer, clock: FixedClock) -> None:
    """A private page is for its caller's cache alone; its tag changes when what it shows does, within seconds."""
    first = served.request("GET", "/status/acme.json", **MINE)
    assert first.headers["Cache-Control"] == "private, max-age=10"
    assert "Authorization" in first.headers["Vary"]
    forecasting = forecasting_of(served.services)
    (notice,) = [
        each
        for each in forecasting.incidents.list_incidents(tenant=ACME, open_only=True)
        if each.rule_key is None
    ]
    by = By(actor="operator_ada")
    resolve_incident(forecasting, notice.incident_id, text="It is done.", by=by)
    again = {"If-None-Match": first.headers["ETag"]}
    assert served.request("GET", "/status/acme.json", headers=again, **MINE).status_code == 304
    clock.moment += timedelta(seconds=11)
    changed = served.request("GET", "/status/acme.json", headers=again, **MINE)
    assert changed.status_code == 200
    told = {each["title"]: each["phase"] for each in changed.json()["incidents"]}
    assert told["Slower than usual this week"] == Phase.RESOLVED


def test_the_feed_is_valid_atom(served: ControlServer) -> None:
    """Feed and entries have what RFC 4287 asks for, each once: id, title, updated, author, links; times have a zone."""
    answer = served.request("GET", "/status/acme.atom", **MINE)
    assert answer.headers["Content-Type"] == "application/atom+xml; charset=utf-8"
    feed = Xml.fromstring(answer.content)
    assert feed.tag == f"{ATOM}feed"
    entries = feed.findall(f"{ATOM}entry")
    assert entries
    for element in (feed, *entries):
        for name in ("id", "title", "updated"):
            (found,) = element.findall(f"{ATOM}{name}")
            assert found.text
        updated = datetime.fromisoformat(element.findtext(f"{ATOM}updated") or "")
        assert updated.tzinfo is not None
    assert feed.findtext(f"{ATOM}author/{ATOM}name") == "Penstock"
    links = {link.get("rel"): link.get("href") for link in feed.findall(f"{ATOM}link")}
    assert links == {
        "self": f"{served.url}/status/acme.atom",
        "alternate": f"{served.url}/status/acme",
    }
    assert len({entry.findtext(f"{ATOM}id") for entry in entries}) == len(entries)
    contents = [entry.find(f"{ATOM}content") for entry in entries]
    assert all(content is not None and content.get("type") == "text" for content in contents)
    assert any(BAD in ((content is not None and content.text) or "") for content in contents)
    assert "<script" not in answer.text


def test_a_caller_is_led_to_its_own_page(served: ControlServer) -> None:
    """Who has signed in finds its page from the root; who has not is asked to."""
    own = served.request("GET", "/status/-/", **MINE)
    assert (own.status_code, own.headers["Location"]) == (303, "/status/acme")
    asked = served.request("GET", "/status/-/", role=None)
    assert asked.headers["Location"].startswith("/status/-/login")
    assert served.request("GET", "/status/-/login", role=None).status_code == 200
