"""Why a plan does what it does to one entity."""

from __future__ import annotations

from decimal import Decimal

import pytest

from penstock.batch.manifest import Mode
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness, Scope
from penstock.errors import NotFound
from penstock.use_cases.explain_entity import (
    MAX_RELATIONSHIPS,
    EntityExplanation,
    explain_entity,
)
from tests.fixtures.memory import Bench, complete_scopes, knows, person


def explained(bench: Bench, key: str) -> EntityExplanation:
    """Publish what is next, and explain what its plan did to one entity."""
    report = bench.publish()
    (explanation,) = explain_entity(bench.platform, report.state.batch_id, key)
    return explanation


def scope(completeness: Completeness, *, prefix: str = "", reason: str | None = None) -> Scope:
    return Scope(type_name="person", completeness=completeness, key_prefix=prefix, reason=reason)


def test_a_create_is_explained_with_its_attributes(bench: Bench) -> None:
    """What is new has no before, and its after is what the batch says."""
    bench.land([person("crm/a", name="Ada")])
    explanation = explained(bench, "crm/a")
    assert explanation.operation is not None
    assert explanation.operation.action == "create"
    assert explanation.why == "a create: it is in the batch and not in the empty snapshot"
    assert (explanation.before, explanation.after) == (None, {"name": "Ada"})
    assert explanation.changes == ()


def test_an_update_names_each_change_by_path_and_value(bench: Bench) -> None:
    """Changes are found inside nested attributes, with the values of both sides."""
    bench.land([person("crm/a", name="Ada", tags=["x", "y"], money=Decimal("1.50"))])
    bench.publish()
    bench.land([person("crm/a", name="Ada L.", tags=["x", "z"], money=Decimal("1.5"), age=36)])
    explanation = explained(bench, "crm/a")
    assert explanation.why == "an update: the batch says something else of it than snapshot 1"
    assert [(c.path, c.change, c.before, c.after) for c in explanation.changes] == [
        ("age", "added", None, 36),
        ("name", "changed", "Ada", "Ada L."),
        ("tags[1]", "changed", "y", "z"),
    ]


def test_the_snapshot_of_that_time_is_compared_with_even_later(bench: Bench) -> None:
    """After newer batches, an older plan is still explained against the snapshot that it was made from."""
    bench.land([person("crm/a", v=1)])
    bench.publish()
    second = bench.land([person("crm/a", v=2)])
    bench.publish()
    bench.land([person("crm/a", v=3)])
    bench.publish()
    (explanation,) = explain_entity(bench.platform, second.batch_id, "crm/a")
    (change,) = explanation.changes
    assert (change.before, change.after) == (1, 2)


def test_a_delete_is_explained_by_the_complete_scope(bench: Bench) -> None:
    """An absence that deletes is explained by the completeness of its scope."""
    bench.land([person("crm/a", v=1), person("crm/b")])
    bench.publish()
    bench.land([person("crm/b")])
    explanation = explained(bench, "crm/a")
    assert explanation.completeness is Completeness.COMPLETE
    assert explanation.why == (
        "a delete: it is in snapshot 1 and absent from the batch, and the scope of person is complete, "
        "so what is absent is gone"
    )
    assert (explanation.before, explanation.after) == ({"v": 1}, None)


def test_an_absence_in_a_failed_scope_is_explained_by_its_failure(bench: Bench) -> None:
    """What is not deleted for want of proof is explained by the scope that decides, and its reason."""
    bench.land([person("crm/eu/a"), person("crm/us/b")])
    bench.publish()
    scopes = [
        scope(Completeness.COMPLETE),
        scope(Completeness.FAILED, prefix="crm/eu", reason="TimeoutError: page 7"),
    ]
    bench.land([person("crm/us/b")], scopes=scopes)
    explanation = explained(bench, "crm/eu/a")
    assert explanation.operation is None
    assert explanation.completeness is Completeness.FAILED
    assert explanation.why == (
        "no delete: it is in snapshot 1 and absent from the batch, but the scope of person under crm/eu is "
        "failed (TimeoutError: page 7), so its absence proves nothing"
    )


def test_an_absence_that_no_scope_speaks_for_is_explained(bench: Bench) -> None:
    """Outside every scope an absence deletes nothing, and the explanation says that no scope covers it."""
    bench.land([person("crm/a"), person("crm/b")])
    bench.publish()
    bench.land([person("crm/b")], scopes=[scope(Completeness.COMPLETE, prefix="crm/b")])
    explanation = explained(bench, "crm/a")
    assert explanation.completeness is Completeness.NON_AUTHORITATIVE
    assert "no scope of the batch speaks for person crm/a" in explanation.why


def test_an_absence_from_a_delta_is_explained(bench: Bench) -> None:
    """A delta batch deletes by tombstones alone."""
    bench.land([person("crm/a"), person("crm/b"), person("crm/c")])
    bench.publish()
    bench.land([person("crm/b", deleted=True)], mode=Mode.DELTA)
    report = bench.publish()
    (absent,) = explain_entity(bench.platform, report.state.batch_id, "crm/a")
    (gone,) = explain_entity(bench.platform, report.state.batch_id, "crm/b")
    assert absent.why.endswith("in a delta batch an absence means nothing")
    assert gone.why == "a delete: the batch has a tombstone for it"
    assert gone.after is None


def test_a_tombstone_for_what_is_not_known_changes_nothing(bench: Bench) -> None:
    """A tombstone that finds nothing is explained as no change."""
    bench.land([person("crm/a")])
    bench.publish()
    bench.land([person("crm/ghost", deleted=True)], mode=Mode.DELTA)
    assert "it is not in snapshot 1 anyway" in explained(bench, "crm/ghost").why


def test_what_is_unchanged_is_explained_as_such(bench: Bench) -> None:
    """An entity without an operation that both sides hold is unchanged."""
    bench.land([person("crm/a", v=1)])
    bench.publish()
    bench.land([person("crm/a", v=1), person("crm/b")])
    explanation = explained(bench, "crm/a")
    assert explanation.operation is None
    assert explanation.why == "no change: the batch says of it what snapshot 1 already holds"
    assert explanation.changes == ()


def test_a_held_delete_names_the_guard(bench: Bench) -> None:
    """An operation that a guard holds is explained with the guard's own words."""
    everyone = [person(f"crm/{n}") for n in range(50)]
    bench.land(everyone)
    bench.publish()
    bench.land(everyone[:10])
    explanation = explained(bench, "crm/49")
    assert "but it is held and not sent: delete_share: person (entities) would lose 40 of 50" in (
        explanation.why
    )
    assert explanation.exception is not None
    assert explanation.exception.outcome == "held"


def test_what_the_target_refused_is_told(bench: Bench) -> None:
    """An operation that was sent and rejected carries the target's answer."""
    bench.target.poison = {"crm/a"}
    bench.land([person("crm/a")])
    explanation = explained(bench, "crm/a")
    assert explanation.exception is not None
    assert (explanation.exception.outcome, explanation.exception.code) == ("rejected", "poison")


def test_operations_on_its_relationships_are_listed(bench: Bench) -> None:
    """Relationships that begin or end at the entity are shown with it, and no others."""
    people = [person("crm/a"), person("crm/b"), person("crm/c")]
    edges = [knows("crm/a", "crm/b"), knows("crm/c", "crm/a"), knows("crm/b", "crm/c")]
    bench.land([*people, *edges])
    explanation = explained(bench, "crm/a")
    assert explanation.relationship_operations == 2
    assert {(op.key, op.to_key) for op in explanation.relationships} == {
        ("crm/a", "crm/b"),
        ("crm/c", "crm/a"),
    }


def test_of_many_relationships_the_first_are_listed_and_all_are_counted(bench: Bench) -> None:
    """However many relationships an entity has, a bounded number of them is held."""
    people = [person("crm/hub"), *[person(f"crm/{n}") for n in range(60)]]
    bench.land([*people, *[knows("crm/hub", f"crm/{n}") for n in range(60)]])
    explanation = explained(bench, "crm/hub")
    assert len(explanation.relationships) == MAX_RELATIONSHIPS == 50
    assert explanation.relationship_operations == 60


def test_an_unknown_entity_is_an_error(bench: Bench) -> None:
    """A key that neither side has raises NotFound, naming the key and the batch."""
    bench.land([person("crm/a")])
    report = bench.publish()
    with pytest.raises(NotFound, match="crm/nobody"):
        explain_entity(bench.platform, report.state.batch_id, "crm/nobody")


def test_a_key_known_under_two_types_is_explained_for_each(bench: Bench) -> None:
    """One key under two types gives two explanations."""
    team = type(person("x"))(entity_type="team", entity_key="crm/a")
    bench.land([person("crm/a"), team], scopes=complete_scopes())
    report = bench.publish()
    explanations = explain_entity(bench.platform, report.state.batch_id, "crm/a")
    assert [each.entity_type for each in explanations] == ["person", "team"]
    assert all(each.operation and each.operation.kind == Kind.ENTITY for each in explanations)
