"""Rules say by name what goes sooner, and are held against tenant, source, kind and time of day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from penstock.batch.source import SourceSpec
from penstock.identity.ids import SourceId
from penstock.publish.priority_rules import (
    BoostRule,
    DeadlineRule,
    Due,
    Matter,
    boosts,
    closeness,
    earliest,
)
from penstock.publish.queue import QueuePolicy, score
from tests.contracts.control_values import NOW, pending, record


def matter(**fields: Any) -> Matter:
    return Matter(**{"tenant": "acme", "source": "crm", "kind": "on_demand", "now": NOW, **fields})


def rule(**fields: Any) -> BoostRule:
    return BoostRule.model_validate({"name": "r", "points": 1, **fields})


def at_hour(hour: float, day: int = 1) -> datetime:
    return datetime(2026, 1, day, tzinfo=UTC) + timedelta(hours=hour)


def test_a_rule_without_conditions_is_for_everything() -> None:
    """It matches whatever waits, at any time."""
    assert rule().matches(matter())


@pytest.mark.parametrize(
    ("fields", "matches"),
    [
        ({"tenants": ["acme"]}, True),
        ({"tenants": ["other"]}, False),
        ({"sources": ["crm", "erp"]}, True),
        ({"sources": ["cr*"]}, True),
        ({"sources": ["er*"]}, False),
        ({"kinds": ["recovery"]}, False),
        ({"tenants": ["acme"], "kinds": ["recovery"]}, False),
    ],
)
def test_all_that_a_rule_names_has_to_hold(fields: dict[str, Any], matches: bool) -> None:
    """Each condition alone can keep a rule from matching."""
    assert rule(**fields).matches(matter()) is matches


def test_a_window_holds_from_its_beginning_to_before_its_end() -> None:
    """Its first moment is within, its last is not."""
    office = rule(begins="08:00", ends="18:00")
    hours = [7.99, 8, 17.99, 18]
    assert [office.matches(matter(now=at_hour(h))) for h in hours] == [False, True, True, False]


def test_a_window_is_in_its_zone() -> None:
    """Eight o'clock in Berlin is seven o'clock UTC in winter."""
    office = rule(begins="08:00", ends="18:00", zone="Europe/Berlin")
    assert office.matches(matter(now=at_hour(7)))
    assert not office.matches(matter(now=at_hour(17)))


def test_a_window_over_midnight_belongs_to_the_day_that_it_began_on() -> None:
    """Of Thursday night all belongs to Thursday, Friday's small hours too."""
    thursday = 1  # of January 2026
    night = rule(begins="22:00", ends="04:00", days=["thu"])
    assert night.matches(matter(now=at_hour(23, thursday)))
    assert night.matches(matter(now=at_hour(3, thursday + 1)))
    assert not night.matches(matter(now=at_hour(3, thursday)))
    assert not night.matches(matter(now=at_hour(23, thursday + 1)))


@pytest.mark.parametrize(
    "fields",
    [
        {"begins": "08:00"},
        {"begins": "08:00", "ends": "08:00"},
        {"zone": "Europe/Nowhere"},
        {"begins": "08:00+01:00", "ends": "09:00+01:00"},
        {"days": ["monday"]},
        {"points": "inf"},
    ],
)
def test_a_rule_that_means_nothing_is_refused(fields: dict[str, Any]) -> None:
    """Half a window, a zone that is not there, or points beyond counting."""
    with pytest.raises(ValidationError):
        rule(**fields)


def test_the_earliest_deadline_counts_whoever_set_it() -> None:
    """A rule's deadline counts from when something began to wait, and yields to an earlier one of its own."""
    rules = [DeadlineRule(name="hourly", within_s=3600)]
    own = Due(at=NOW + timedelta(minutes=90), why="its workflow")
    assert earliest(rules, matter(), NOW, own=[own]) == Due(
        at=NOW + timedelta(hours=1), why="rule hourly"
    )
    assert earliest(rules, matter(), NOW + timedelta(hours=1), own=[own]) == own
    assert earliest([], matter(), NOW) is None


def test_closeness_rises_over_the_horizon_and_stays_at_one() -> None:
    """Nothing while far off, half at half the horizon, one when it has passed."""
    due = Due(at=NOW, why="x")
    moments = [-120, -60, -30, 0, 500]
    found = [closeness(due, 60, NOW + timedelta(seconds=s)) for s in moments]
    assert found == [0, 0, 0.5, 1, 1]
    assert closeness(None, 60, NOW) == 0


def test_a_batch_has_the_points_of_its_sla_and_of_the_rules() -> None:
    """The publish queue scores by the same rules; its deadline is the SLA, counted from the source timestamp."""
    policy = QueuePolicy(
        deadline_weight=8,
        deadline_horizon_s=3600,
        boosts=(rule(sources=["a"], points=3), rule(name="not", kinds=["republish"])),
    )
    spec = SourceSpec(source_id=SourceId("a"), sla_s=1800)
    found = score(spec, pending(record("a", 0)), policy, NOW)
    assert (found.deadline, found.rules) == (4.0, (("r", 3.0),))
    assert found.total == pytest.approx(1.0 - 0.25 + 4.0 + 3.0)


def test_without_rules_the_queue_scores_as_it_did() -> None:
    """By default deadlines have no weight, and nothing is boosted by rule."""
    spec = SourceSpec(source_id=SourceId("a"), sla_s=1)
    found = score(spec, pending(record("a", 0)), QueuePolicy(), NOW)
    assert (found.deadline, found.rules, found.total) == (0.0, (), 0.75)


def test_the_points_of_several_rules_add_up() -> None:
    """Each is named with its own."""
    found = boosts([rule(name="a", points=2), rule(name="b", points=-1)], matter())
    assert found == (("a", 2.0), ("b", -1.0))
