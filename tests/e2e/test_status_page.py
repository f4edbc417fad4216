"""A customer at the status page, in a real browser: signing in, reading, by keyboard, narrow, and in the dark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from control_plane.service.forecasting import forecasting_of
from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import ControlServer, running_control, services_at
from tests.fixtures.reading import mistakes, poor_contrasts
from tests.fixtures.status_world import fill

PICTURES = "PENSTOCK_PICTURES"
"""Names a folder for screenshots, for people who want to look."""


@pytest.fixture(scope="module")
def served(
    migrated_sqlite: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlServer]:
    """Serve two tenants with forty days of history."""
    folder = tmp_path_factory.mktemp("status")
    shutil.copy(migrated_sqlite, folder / "control.db")
    clock = FixedClock(datetime(2026, 3, 4, 15, 20, tzinfo=UTC))
    services = services_at(folder / "home", f"sqlite:///{folder / 'control.db'}", clock)
    fill(forecasting_of(services))
    with running_control(services) as running:
        yield running


def _sign_in(page: Page, served: ControlServer) -> None:
    page.goto(f"{served.url}/status/-/")
    page.get_by_label("API token").fill(served.token("viewer", tenant="acme"))
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Status of acme")).to_be_visible()


def _picture(page: Page, name: str) -> None:
    if os.environ.get(PICTURES):
        page.screenshot(path=Path(os.environ[PICTURES]) / f"{name}.png", full_page=True)


def test_a_customer_reads_how_its_sources_stand(served: ControlServer, page: Page) -> None:
    """Signed in with a token, a customer sees each source in words, what is on its way, and what is being done."""
    _sign_in(page, served)
    expect(page).to_have_url(f"{served.url}/status/acme")
    crm = page.get_by_role("article", name="crm", exact=True)
    expect(crm).to_contain_text("Updating")
    expect(crm).to_contain_text("nine times in ten by 2026-03-04")
    expect(crm.get_by_role("img")).to_have_accessible_name(
        "Last 30 days: 26 in time, 3 late, 1 failed"
    )
    crm.get_by_text("Days of crm as a table").click()
    expect(crm.get_by_role("row", name="2026-02-13 failed 1 0 1")).to_be_visible()
    told = page.get_by_role("region", name="Open incidents")
    expect(told).to_contain_text("Storage is being moved; nothing is lost. <script>")
    expect(page).to_have_title("acme · Status")
    expect(page.locator("body")).not_to_contain_text("secret_merger")
    page.get_by_role("link", name="Last 90 days").click()
    expect(crm.get_by_role("img")).to_have_accessible_name(
        "Last 90 days: 36 in time, 3 late, 1 failed"
    )


def test_it_is_read_by_keyboard_alone(served: ControlServer, page: Page) -> None:
    """From the first key on, everything that can be opened or followed is reached, and shows that it is."""
    _sign_in(page, served)
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent.trim()"))
        shown = "getComputedStyle(document.activeElement).outlineStyle"
        assert page.evaluate(shown) != "none"
        if reached[-1] == "JSON":
            break
    assert reached[0] == "Skip to content"
    assert {"Days of crm as a table", "Last 90 days", "Atom feed", "JSON"} <= set(reached)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1100, 360])
def test_it_can_be_read_in_any_light_and_width(
    served: ControlServer, browser: Browser, scheme: Any, width: int
) -> None:
    """In the light and in the dark text stands out by 4.5 to 1; on a phone nothing has to be scrolled sideways."""
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, java_script_enabled=True
    )
    page = context.new_page()
    _sign_in(page, served)
    assert poor_contrasts(page) + mistakes(page) == []
    wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
    assert page.evaluate(wide)
    _picture(page, f"status-{scheme}-{width}")
    page.goto(f"{served.url}/status/nobody")
    assert poor_contrasts(page) + mistakes(page) == []
    _picture(page, f"missing-{scheme}-{width}")
    context.close()


def test_it_works_without_scripts_and_without_the_internet(
    served: ControlServer, browser: Browser
) -> None:
    """Without JavaScript everything is there, and nothing is asked of any other host."""
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    _sign_in(page, served)
    page.get_by_text("Days of warehouse as a table").click()
    expect(page.get_by_role("row", name="2026-02-24 failed 1 0 1")).to_be_visible()
    assert all(url.startswith(served.url) for url in asked)
    context.close()
