"""What can be asked for with a workflow, and which sources a turn is for."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId, TargetId, TenantId
from penstock.workflow.spec import WorkflowSpec

ACME, OTHER = TenantId("acme"), TenantId("other")
SOURCES = [
    SourceSpec(source_id=SourceId("crm_eu"), tenant_id=ACME, importance=0.9),
    SourceSpec(source_id=SourceId("crm_us"), tenant_id=ACME, importance=0.2),
    SourceSpec(source_id=SourceId("crm_x"), tenant_id=OTHER, importance=1.0),
    SourceSpec(source_id=SourceId("erp"), tenant_id=ACME, targets=(TargetId("lake"),)),
]


def _spec(**values: Any) -> WorkflowSpec:
    return WorkflowSpec.model_validate({"name": "nightly", "sources": ["crm_eu"]} | values)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sources": []}, "either sources or a selector"),
        ({"selector": {}}, "either sources or a selector"),
        ({"sources": ["a", "a"]}, "names one twice"),
        ({"sources": ["A b"]}, "is not a valid id"),
        ({"steps": ["transform"]}, "the first ones of collect, transform, publish"),
        ({"steps": []}, "the first ones of"),
        ({"kind": "scheduled"}, "has a cron expression and no event"),
        ({"kind": "event_driven", "cron": "* * * * *"}, "has an event and no cron"),
        ({"cron": "* * * * *"}, "begins at once"),
        ({"compensation": {"collect": "rollback"}}, "does not undo collect; what does: nothing"),
        ({"compensation": {"transform": "rollback"}}, "what does: cancel"),
        ({"compensation": {"publish": "rollback"}, "steps": ["collect"]}, "nothing here"),
        ({"deadline_s": 0}, "greater than 0"),
        ({"capabilities": {"collect": "Not Good"}}, "should match pattern"),
        ({"nonsense": 1}, "Extra inputs"),
    ],
)
def test_what_cannot_be_meant_is_refused(values: dict[str, Any], said: str) -> None:
    """The error says what is wrong with it."""
    with pytest.raises(ValidationError, match=said):
        _spec(**values)


def test_a_turn_is_for_the_sources_of_its_own_tenant() -> None:
    """Named or selected: another tenant's are never among them, and one that is not declared is left out."""
    named = _spec(sources=["crm_us", "crm_x", "gone", "crm_eu"])
    assert [s.source_id for s in named.chosen(SOURCES, ACME)] == ["crm_eu", "crm_us"]
    chosen = _spec(sources=(), selector={"source_prefix": "crm", "importance_at_least": 0.5})
    assert [s.source_id for s in chosen.chosen(SOURCES, ACME)] == ["crm_eu"]
    lake = _spec(sources=(), selector={"target": "lake"})
    assert [s.source_id for s in lake.chosen(SOURCES, ACME)] == ["erp"]
    assert [s.source_id for s in named.chosen(SOURCES, ACME, only="crm_us")] == ["crm_us"]


@pytest.mark.parametrize(
    ("subject", "about", "matches"),
    [
        (None, "crm", True),
        ("crm", "crm", True),
        ("crm", "crm2", False),
        ("crm*", "crm2", True),
        ("crm*", "erp", False),
    ],
)
def test_an_event_matches_by_type_and_subject(
    subject: str | None, about: str, matches: bool
) -> None:
    """Exactly, by its beginning, or whatever it is about; another type never."""
    event = {"type": "archive_discovered", "subject": subject}
    trigger = _spec(kind="event_driven", event=event).event
    assert trigger is not None
    assert trigger.matches("archive_discovered", about) is matches
    assert not trigger.matches("collection_completed", about)


def test_an_event_matches_by_the_source_that_it_is_about() -> None:
    """The source that is asked for and no other; of workers there is none to ask for."""
    event = {"type": "collection_completed", "source": "crm"}
    trigger = _spec(kind="event_driven", event=event).event
    assert trigger is not None
    matched = [trigger.matches("collection_completed", "t1", of) for of in ("crm", "erp", None)]
    assert matched == [True, False, False]
    for asked in ({"source": "crm"}, {"only_its_source": True}):
        with pytest.raises(ValidationError, match="about no source"):
            _spec(kind="event_driven", event={"type": "worker_status_changed", **asked})


def test_a_step_needs_the_capability_of_its_name_or_its_own() -> None:
    """A workflow can ask for a special worker for one step."""
    spec = _spec(capabilities={"collect": "collect:sap"})
    assert [spec.capability(step) for step in spec.steps] == ["collect:sap", "transform", "publish"]
