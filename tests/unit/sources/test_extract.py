"""Scopes as an extractor declares them, and collecting what it yields."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from penstock.batch.collected import collect
from penstock.batch.manifest import Mode
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.scope import Completeness
from penstock.batch.source import Extract, Extracted, source
from penstock.errors import BadRow, InvalidIdentifier, PenstockError


def customer(key: str, **attributes: object) -> Entity:
    return Entity(entity_type="customer", entity_key=key, attributes=attributes)


def test_a_scope_that_ends_is_complete_and_one_that_raises_is_failed() -> None:
    """A failed page costs its own scope, keeps its reason, and lets the extract go on."""

    @source("crm")
    def crm(extract: Extract) -> Iterator[Extracted]:
        for region in ("eu", "us"):
            with extract.scope("customer", f"crm/{region}"):
                yield customer(f"crm/{region}/1")
                if region == "eu":
                    raise TimeoutError("page 2 took too long")

    found = collect(crm)
    assert found.keys("customer") == {"crm/eu/1", "crm/us/1"}
    assert found.completeness("customer", "crm/eu/2") is Completeness.FAILED
    assert found.absence_deletes("customer", "crm/us/2")
    assert found.scopes[0].reason == "TimeoutError: page 2 took too long"


def test_types_enumerated_together_fail_together() -> None:
    """Entities and relationships of one enumeration are all complete or all failed."""

    @source("crm")
    def crm(extract: Extract) -> Iterator[Extracted]:
        with extract.scopes_of([(Kind.ENTITY, "customer"), (Kind.RELATIONSHIP, "knows")], "crm"):
            yield customer("crm/1")
            raise ValueError("broken")

    found = collect(crm)
    assert found.completeness("customer", "crm/2") is Completeness.FAILED
    assert found.completeness("knows", "crm/1", kind=Kind.RELATIONSHIP) is Completeness.FAILED


def test_what_no_scope_covers_deletes_nothing() -> None:
    """An extractor that declares nothing speaks for nothing."""

    @source("crm")
    def crm(extract: Extract) -> Iterator[Extracted]:
        yield customer("crm/1")

    assert not collect(crm).absence_deletes("customer", "crm/2")


def test_an_absence_from_a_delta_deletes_nothing() -> None:
    """In a delta only tombstones delete, whatever its scopes say."""

    @source("crm", mode=Mode.DELTA)
    def crm(extract: Extract) -> Iterator[Extracted]:
        with extract.scope("customer"):
            yield Entity(entity_type="customer", entity_key="crm/1", deleted=True)

    found = collect(crm)
    assert found.tombstones == {("customer", "crm/1")}
    assert not found.absence_deletes("customer", "crm/2")


def test_arrow_tables_become_rows() -> None:
    """Typed columns become attributes, JSON text is read, and tombstones are kept apart."""

    @source("crm", mode=Mode.DELTA)
    def crm(extract: Extract) -> Iterator[Extracted]:
        yield pa.table({"entity_type": ["customer"], "entity_key": ["crm/1"], "age": [36]})
        yield pa.table(
            {
                "relationship_type": ["knows", "knows"],
                "from_key": ["crm/1", "crm/1"],
                "to_key": ["crm/2", "crm/3"],
                "attributes": ['{"since":1843}', None],
                "tombstone": [False, True],
            }
        )

    found = collect(crm)
    assert found.entities == {("customer", "crm/1"): {"age": 36}}
    assert found.relationships == {("crm/1", "knows", "crm/2"): {"since": 1843}}
    assert found.tombstones == {("crm/1", "knows", "crm/3")}
    assert found.dangling() == {("crm/1", "knows", "crm/2")}


def test_the_transform_is_applied() -> None:
    """What is collected is what would land: rows after the transform."""

    def shout(row: Entity | Relationship) -> Iterator[Entity | Relationship]:
        assert isinstance(row, Entity)
        yield customer(row.entity_key.upper())

    @source("crm", transform=shout)
    def crm(extract: Extract) -> Iterator[Extracted]:
        yield customer("crm/1")

    assert collect(crm).keys("customer") == {"CRM/1"}


def test_a_key_that_is_yielded_twice_is_an_error() -> None:
    """A batch may hold each key once; the error names it."""

    @source("crm")
    def crm(extract: Extract) -> Iterator[Extracted]:
        yield customer("crm/1")
        yield customer("crm/1")

    with pytest.raises(BadRow, match="customer crm/1 was yielded twice"):
        collect(crm)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Entity(entity_type="customer", entity_key="crm/1", deleted=True), "is a tombstone"),
        (customer(""), "empty entity_key"),
        (customer("crm/1", tags={"a", "b"}), "is a set"),
        (Entity(entity_type="no type", entity_key="crm/1"), "'no type' is not a valid name"),
    ],
)
def test_what_no_batch_can_hold_is_an_error(row: Entity, message: str) -> None:
    """Collecting makes the checks that landing makes."""

    @source("crm")
    def crm(extract: Extract) -> Iterator[Extracted]:
        yield row

    with pytest.raises(BadRow, match=message):
        collect(crm)


def test_rows_that_the_transform_drops_are_counted() -> None:
    """They are filtered, as those that the extractor leaves out are."""

    @source("crm", transform=lambda row: () if row.attributes["test"] else (row,))
    def crm(extract: Extract) -> Iterator[Extracted]:
        yield customer("crm/1", test=True)
        yield customer("crm/2", test=False)
        extract.filter("customer", 3)

    found = collect(crm)
    assert found.keys("customer") == {"crm/2"}
    assert found.filtered[Kind.ENTITY, "customer"] == 4


def test_settings_of_the_call_go_over_those_of_the_source() -> None:
    """An extractor sees the source's settings, and what a run replaces of them."""

    @source("crm", settings={"page": 10, "region": "eu"})
    def crm(extract: Extract) -> Iterator[Extracted]:
        yield customer("crm/1", **extract.settings)

    found = collect(crm.with_settings(page=20), settings={"region": "us"})
    assert found.entities["customer", "crm/1"] == {"page": 20, "region": "us"}


def test_a_source_with_a_bad_id_is_refused_where_it_is_declared() -> None:
    """An id that is no slug is an error at once, not at the first extract."""
    with pytest.raises(InvalidIdentifier, match=r"'\.\./crm'"):
        source("../crm")(lambda extract: ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"importance": 1.5}, "importance is 1.5: pass a number from 0 to 1"),
        ({"complexity": float("nan")}, "complexity is nan"),
        ({"cadence_s": 0}, "cadence_s is 0: pass seconds, or None"),
        ({"sla_s": -1}, "sla_s is -1"),
        ({"targets": []}, "has no targets"),
    ],
)
def test_what_the_queue_could_not_weigh_is_refused(options: dict[str, Any], message: str) -> None:
    """Importance and complexity lie between 0 and 1, seconds are positive, and there is a target."""
    with pytest.raises(PenstockError, match=message):
        source("crm", **options)(lambda extract: ())


def test_a_source_is_described_by_its_generators_docstring() -> None:
    """The first paragraph is what people read in the UI, unless a description is given."""

    def crm(extract: Extract) -> Iterator[Extracted]:
        """Customers of all regions.

        More for who reads the code.
        """
        yield from ()

    assert source("crm")(crm).spec.description == "Customers of all regions."
    assert source("crm", description="")(crm).spec.description == ""
