"""Who was let in is not looked up again for a moment, and for no longer."""

from __future__ import annotations

import pytest

from control_plane.web.remembering import Remembered
from penstock.access.control import ControlRole
from penstock.access.tokens import Principal
from penstock.identity.ids import TenantId
from tests.fixtures.clock import FixedClock

ADA = Principal(
    tenant_id=TenantId("acme"), role=ControlRole.VIEWER, actor="ada", caller_id="0123456789abcdef"
)


@pytest.fixture
def remembered(clock: FixedClock) -> Remembered:
    return Remembered(clock=clock)


def test_a_caller_is_known_for_a_second(remembered: Remembered, clock: FixedClock) -> None:
    """By the whole text that was shown; afterwards the token is looked up again."""
    remembered.add("pct_1_secret", ADA)
    assert remembered.get("pct_1_secret") == ADA
    assert remembered.get("pct_1_other") is None
    clock.sleep(0.9)
    assert remembered.get("pct_1_secret") == ADA
    clock.sleep(0.2)
    assert remembered.get("pct_1_secret") is None


def test_a_revocation_has_everybody_looked_up(remembered: Remembered) -> None:
    """At once, in the server that was asked for it."""
    remembered.add("pct_1_secret", ADA)
    remembered.forget()
    assert remembered.get("pct_1_secret") is None


def test_only_so_many_are_remembered(
    remembered: Remembered, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who came last; no secret is kept of any."""
    monkeypatch.setattr("control_plane.web.remembering.MOST_REMEMBERED", 2)
    for text in ("one", "two", "three"):
        remembered.add(text, ADA)
    assert [remembered.get(text) is not None for text in ("one", "two", "three")] == [
        False,
        True,
        True,
    ]
    assert "three" not in repr(remembered)
