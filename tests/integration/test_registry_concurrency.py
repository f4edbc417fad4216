"""Whatever of the registry is killed when, each event is in the log once, and in every projection once and in order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.registry_rivals import Campaign


@pytest.mark.postgres
def test_kills_lose_nothing_and_repeat_nothing(new_control_url: Callable[[str], str]) -> None:
    """Four writers and four projections are killed six times; ``make rivals`` has 32 writers and 100 kills."""
    report = Campaign(new_control_url("postgres"), writers=4, count=40, kills=6).run()
    assert report.wrong == []
    assert report.kills >= 3
    assert report.events == 4 * (4 * 20 + 36)
