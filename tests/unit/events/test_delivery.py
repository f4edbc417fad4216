"""What follows when a destination does not take an event."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.events.delivery import (
    Again,
    Answer,
    DeliveryPolicy,
    Destination,
    DestinationKind,
    DestinationStatus,
    Disable,
    Wanted,
    after_failure,
)
from penstock.events.envelope import OutboxCursor, OutboxEvent
from penstock.events.handling import HandlingPolicy, next_try
from penstock.identity.ids import TenantId

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = DeliveryPolicy(first_delay_s=1, max_delay_s=100, disable_after_s=1000)
HOOK = Destination(
    destination_id="hook",
    tenant_id=TenantId("acme"),
    kind=DestinationKind.WEBHOOK,
    address="https://example.org",
    wanted=Wanted(),
    status=DestinationStatus.ENABLED,
    created_at=NOW,
    created_by="kim",
    cursor=OutboxCursor(),
)
DOWN = Answer(error="it answered 500", status_code=500)


def event(**fields: object) -> OutboxEvent:
    """An event of a tenant."""
    values: dict[str, object] = {
        "cursor": OutboxCursor(),
        "event_id": "1",
        "type": "batch_failed",
        "source": "/penstock",
        "subject": "crm@2026",
        "tenant_id": TenantId("acme"),
        "time": NOW,
        "data": {},
    }
    return OutboxEvent(**{**values, **fields})  # type: ignore[arg-type]


@given(failures=st.integers(0, 10_000), jitter=st.floats(0, 1))
def test_waits_double_up_to_a_bound(failures: int, jitter: float) -> None:
    """The n-th failure waits between a half and the whole of ``2 ** (n - 1)`` seconds, and never beyond the bound."""
    follows = after_failure(replace(HOOK, failures=failures), DOWN, POLICY, NOW, jitter)
    assert isinstance(follows, Again)
    whole = min(100.0, 2.0 ** min(failures, 30))
    assert whole / 2 <= (follows.at - NOW).total_seconds() <= whole


@pytest.mark.parametrize(("asked_s", "waits_s"), [(50, 50), (0.1, 1), (10**9, 3600)])
def test_what_it_asks_for_is_honoured(asked_s: float, waits_s: float) -> None:
    """Retry-After makes a wait longer, never shorter, and not longer than an hour."""
    follows = after_failure(HOOK, replace(DOWN, retry_after_s=asked_s), POLICY, NOW, 0)
    assert follows == Again(at=NOW + timedelta(seconds=waits_s))


def test_one_that_is_down_for_long_or_gone_is_given_up() -> None:
    """After the policy's time without a success it is disabled, and at once if it says that it is gone."""
    since = replace(HOOK, failing_since=NOW - timedelta(seconds=1000), failures=9)
    assert isinstance(after_failure(since, DOWN, POLICY, NOW, 0), Disable)
    gone = Answer(error="it answered 410", status_code=410, gone=True)
    assert isinstance(after_failure(HOOK, gone, POLICY, NOW, 0), Disable)


def test_a_destination_is_told_what_is_its_tenant_s_and_wanted() -> None:
    """Another tenant's events are never told; the platform's destinations are told everybody's."""
    assert HOOK.is_told(event())
    assert not HOOK.is_told(event(tenant_id=TenantId("other")))
    assert not HOOK.is_told(event(tenant_id=TenantId("*")))
    assert replace(HOOK, tenant_id=TenantId("*")).is_told(event(tenant_id=TenantId("other")))
    chosen = replace(HOOK, wanted=Wanted(types=("batch_failed",), subjects=("crm@", "erp@")))
    assert chosen.is_told(event())
    assert not chosen.is_told(event(subject="hr@2026"))
    assert not chosen.is_told(event(type="batch_landed"))


def test_an_event_that_came_in_is_tried_so_often() -> None:
    """Waits double up to a bound, and after the last attempt there is none."""
    policy = HandlingPolicy(attempts=4, first_delay_s=1, max_delay_s=3)
    waits = [next_try(policy, n, NOW, 0) for n in range(1, 5)]
    assert [None if w is None else (w - NOW).total_seconds() for w in waits] == [1, 2, 3, None]
