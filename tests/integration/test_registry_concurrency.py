"""Whatever of the registry is killed when, each event is in the log once, and in every projection once and in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.registry_rivals import Campaign


@pytest.mark.postgres
def test_kills_lose_nothing_and_repeat_nothing(new_control_url: Callable[[str], str]) -> None:
    """Three writers and four projections are killed four times; ``make rivals`` has 32 writers and 100 kills."""
    report = Campaign(new_control_url("postgres"), writers=3, count=30, kills=4).run()
    assert report.wrong == []
    assert report.kills >= 2
    assert report.events == 3 * (3 * 20 + 27)
