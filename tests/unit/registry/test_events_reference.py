"""The page on events is what the code says, and says it of every event."""

from __future__ import annotations

from pathlib import Path

from penstock.registry.events import EventAction
from penstock.registry.reference import ACTIONS, events_page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "events.md"


def test_the_reference_page_is_current() -> None:
    """docs/reference/events.md is what the code says; regenerate it with events_page()."""
    assert PAGE.read_text() == events_page()


def test_every_action_can_happen_to_something() -> None:
    """No action is left out of the page."""
    assert {action for actions in ACTIONS.values() for action in actions} == set(EventAction)
