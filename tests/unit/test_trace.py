"""Trace contexts from outside are taken as W3C Trace Context writes them, or dropped."""

from __future__ import annotations

import pytest

from penstock.identity.trace import LONGEST_TRACE_PARENT, read_trace_parent
from penstock.ports.tracing import trace_parent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_what_the_standard_writes_is_kept() -> None:
    """As it came, sampled or not; what is derived from an id is one, too."""
    derived = trace_parent_of("crm@2026-01-01T00-00-00.000000Z")
    for good in (GOOD, f"00-{TRACE}-{SPAN}-00", derived):
        assert read_trace_parent(good) == good
        assert len(good) == LONGEST_TRACE_PARENT


@pytest.mark.parametrize("later", [f"01-{TRACE}-{SPAN}-03", f"cc-{TRACE}-{SPAN}-01-what-comes"])
def test_one_of_a_later_version_is_taken_as_of_this_one(later: str) -> None:
    """With what this version knows of it: no flag but that it is sampled, and nothing behind."""
    assert read_trace_parent(later) == GOOD


@pytest.mark.parametrize(
    "bad",
    [
        None,
        7,
        GOOD.encode(),
        "",
        GOOD.upper(),
        GOOD + "\n",
        " " + GOOD,
        GOOD + "-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
        f"01-{TRACE}-{SPAN}-01-{'x' * 500}",
        "00-" + "g" * 32 + f"-{SPAN}-01",
    ],
)
def test_what_is_none_is_dropped(bad: object) -> None:
    """Never an error: whatever was sent with it counts all the same."""
    assert read_trace_parent(bad) is None
