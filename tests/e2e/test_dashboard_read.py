"""Every page of the dashboard, with something on it, measured in a browser: can people read it, and use it?"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import ControlServer
from tests.fixtures.dashboard_world import dashboard_with_everything
from tests.fixtures.reading import mistakes, out_of_reach, poor_contrasts, poor_texts_of_chart

PICTURES = "PENSTOCK_PICTURES"
"""Names a folder for screenshots, for people who want to look."""
OPEN = "document.querySelectorAll('details').forEach(each => { each.open = true; })"
BROKEN = """() => [...document.querySelectorAll('td, th')].filter(e => e.getClientRects().length).filter(e => {
  const style = getComputedStyle(e), inside = e.clientWidth - parseFloat(style.paddingLeft) * 2;
  return inside > 0 && e.textContent.trim().length > 3 && inside < 24; }).map(e => e.outerHTML.slice(0, 100))"""
CHARTS = "() => [...document.images].map(i => i.src)"
Served = tuple[ControlServer, list[str]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a platform where everything happens at once; none of these tests changes anything."""
    clock = FixedClock(datetime(2026, 3, 4, 15, 20, tzinfo=UTC))
    with dashboard_with_everything(tmp_path_factory.mktemp("dashboard"), clock) as world:
        yield world


def _pages(page: Page, served: Served) -> Iterator[str]:
    """Sign in, and go from page to page with everything opened that can be."""
    server, paths = served
    page.goto(f"{server.url}/dashboard/")
    yield "/login"
    page.get_by_label("API token").fill(server.token("operator"))
    page.get_by_role("button", name="Sign in").click()
    for path in paths:
        answer = page.goto(f"{server.url}/dashboard{path}")
        assert answer is not None
        assert answer.status == 200, path
        page.evaluate(OPEN)
        yield path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_any_light_and_width(
    served: Served, browser: Browser, scheme: Any
) -> None:
    """Text and fields stand out as WCAG AA asks, in charts too; on a phone no page is too wide, no cell a sliver."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 800}, color_scheme=scheme, reduced_motion="reduce"
    )
    page, poor, charts = context.new_page(), {}, set()
    for path in _pages(page, served):
        poor[path] = poor_contrasts(page)
        _picture(page, f"{path}-{scheme}-1280")
        page.set_viewport_size({"width": 390, "height": 800})
        if page.evaluate("document.documentElement.scrollWidth") > 390:
            poor[path].append("wider than a phone")
        poor[path] += page.evaluate(BROKEN)
        _picture(page, f"{path}-{scheme}-390")
        page.set_viewport_size({"width": 1280, "height": 800})
        charts.update(page.evaluate(CHARTS))
    ground = {"light": "#ffffff", "dark": "#1c2226"}[scheme]
    names = {re.sub(r"\?.*", "", url): url for url in charts}
    assert len(names) == 6
    for name, url in names.items():
        page.goto(url)
        poor[name] = poor_texts_of_chart(page, ground)
    context.close()
    assert {path: found for path, found in poor.items() if found} == {}


def test_it_can_be_used_without_mouse_sight_and_colours(served: Served, browser: Browser) -> None:
    """By keyboard everything is reached and seen to be; fields, pictures and tables have names, states have words."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page, missing = context.new_page(), {}
    for path in _pages(page, served):
        missing[path] = mistakes(page) + out_of_reach(page)
    context.close()
    assert {path: found for path, found in missing.items() if found} == {}


def _picture(page: Page, name: str) -> None:
    if os.environ.get(PICTURES):
        file = re.sub(r"[^a-z0-9]+", "_", name[:60] if "?" not in name else name[-24:])
        page.screenshot(path=Path(os.environ[PICTURES]) / f"{file}.png", full_page=True)
