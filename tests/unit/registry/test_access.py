"""Roles, tokens and limits: decided without a database or a clock."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.access.limits import RateLimit, RequestLimits, nested, take
from penstock.access.tokens import Token, admitted, mint_token, parse_token
from penstock.identity.ids import TenantId
from penstock.registry.access import REGISTRY, Role

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def minted(*, seed: int = 0, expires_at: datetime | None = None) -> tuple[str, Token]:
    """A token of ada's at acme, the same each time."""
    return mint_token(
        realm=REGISTRY,
        tenant_id=TenantId("acme"),
        role=Role.WRITER,
        name="ada",
        created_by="root",
        now=NOW,
        expires_at=expires_at,
        random_bytes=lambda size: bytes((seed + n) % 256 for n in range(size)),
    )


def test_roles_include_those_below() -> None:
    """Each role may do what the ones before it may, and nothing that needs a later one."""
    ordered = [Role.READER, Role.WRITER, Role.SCHEMA_ADMIN, Role.ADMIN]
    for rank, role in enumerate(ordered):
        assert [role.includes(needed) for needed in ordered] == [n <= rank for n in range(4)]


def test_a_token_speaks_for_its_tenant() -> None:
    """The text that was made lets its owner in, under the token's name, tenant and role."""
    text, kept = minted()
    presented = parse_token(text, REGISTRY)
    assert presented is not None
    principal = admitted(presented, kept, NOW)
    assert principal == kept.principal()
    assert (kept.principal().actor, kept.principal().caller_id) == ("ada", kept.token_id)


def test_what_is_kept_does_not_tell_the_secret() -> None:
    """Neither a record nor what was presented shows a secret when it is printed."""
    text, kept = minted()
    secret = text.rpartition("_")[2]
    assert secret not in repr(kept)
    assert secret not in repr(parse_token(text, REGISTRY))
    assert secret.encode() not in kept.secret_digest


@pytest.mark.parametrize(
    "text",
    ["", "pst_", "pst_0001_x", "Bearer pst_0001020304050607_", "pst_0001020304050607_" + "a" * 44],
)
def test_what_is_no_token_is_not_looked_up(text: str) -> None:
    """A text of another form is refused before anything is asked."""
    assert parse_token(text, REGISTRY) is None
    assert parse_token(minted()[0] + "\n", REGISTRY) is None


def test_a_token_that_does_not_stand_lets_nobody_in() -> None:
    """Expired, revoked, another's secret and nobody's id are refused alike."""
    text, kept = minted(expires_at=NOW + HOUR)
    presented, other = parse_token(text, REGISTRY), parse_token(minted(seed=9)[0], REGISTRY)
    assert presented is not None
    assert other is not None
    assert admitted(presented, kept, NOW + HOUR - timedelta(microseconds=1)) is not None
    assert admitted(presented, kept, NOW + HOUR) is None
    assert admitted(presented, replace(kept, revoked_at=NOW), NOW) is None
    assert admitted(replace(presented, secret=other.secret), kept, NOW) is None
    assert admitted(presented, None, NOW) is None


def test_a_use_is_noted_once_a_minute() -> None:
    """Reads that follow one another do not each become a write."""
    _, kept = minted()
    assert kept.use_is_to_be_noted(NOW)
    used = replace(kept, last_used_at=NOW)
    assert not used.use_is_to_be_noted(NOW + timedelta(seconds=59))
    assert used.use_is_to_be_noted(NOW + timedelta(seconds=60))


def test_a_bucket_gives_a_burst_and_then_a_rate() -> None:
    """After the burst a caller is told exactly how long to wait, and has that much after it."""
    limit = RateLimit(per_second=2, burst=3)
    bucket = None
    for _ in range(3):
        bucket, wait_s = take(bucket, limit, now_s=10)
        assert wait_s == 0
    bucket, wait_s = take(bucket, limit, now_s=10)
    assert wait_s == 0.5
    bucket, wait_s = take(bucket, limit, now_s=10.5)
    assert wait_s == 0
    assert take(bucket, limit, now_s=1000)[0].left == 2, "it fills to the burst and no further"


@given(st.lists(st.floats(0, 3), max_size=60))
def test_no_stretch_of_time_has_more_than_its_share(pauses: list[float]) -> None:
    """However requests are spaced, at most the burst and the rate times the time get through."""
    limit, now_s, bucket, through = RateLimit(per_second=1.5, burst=4), 0.0, None, 0
    for pause in pauses:
        now_s += pause
        bucket, wait_s = take(bucket, limit, now_s=now_s)
        through += wait_s == 0
        assert through <= limit.burst + now_s * limit.per_second + 1e-6


def depth(value: Any) -> int:
    """The depth of a JSON value, the plain way."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


values = st.recursive(
    st.none() | st.integers() | st.text(alphabet='[]{}"\\a\u00e9'),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet='[]{}"\\a'), inner),
)


@given(values)
def test_nesting_is_told_without_parsing(value: Any) -> None:
    """Brackets count where they are JSON's and not where they are text."""
    assert nested(json.dumps(value).encode()) == depth(value)


def test_nesting_of_what_no_parser_survives() -> None:
    """A million brackets are counted like any others, and so is what is not JSON."""
    assert nested(b"[" * 1_000_000) == 1_000_000
    most = RequestLimits().nested
    assert nested(b"[" * (most + 1) + b"]" * (most + 1)) == most + 1
    assert nested(b'"[[[[') == 0
    assert nested(b'"[[\\') == 0
    assert nested(b"") == 0
    assert nested(b"]]]") == 0
