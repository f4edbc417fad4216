"""What audits found, on SQLite and PostgreSQL: looks are recorded whole, and findings go from open to settled once."""

from __future__ import annotations

from typing import Any

import pytest

from penstock.errors import LaneBusy
from penstock.identity.ids import SourceId, TargetId
from penstock.ports.control import Settlement
from penstock.ports.drift import EXTRA, Drift, DriftCursor, DriftStatus, ListingCursor
from penstock.ports.target import HeldName
from penstock.publish.state import Intent
from resources.control_db.store import SqlControlStore
from tests.contracts.control_values import (
    DIGEST,
    NOW,
    REGISTRY,
    admit,
    at,
    finish,
    must_claim,
    start,
)

A = SourceId("a")


def finding(number: int, **fields: Any) -> Drift:
    """An entity that lacks at the target."""
    values: dict[str, Any] = {
        "drift_id": f"{number:032x}",
        "source_id": A,
        "target_id": REGISTRY,
        "kind": "entities",
        "type_name": "table",
        "key": f"db/t{number}",
        "to_key": None,
        "finding": "missing",
        "expected_digest": "e" * 32,
        "found_digest": None,
        "fields": [],
        "status": DriftStatus.OPEN,
        "found_at": NOW,
    }
    return Drift(**{**values, **fields})


def cursor(minute: float = 0, **fields: Any) -> DriftCursor:
    """Where the audit of the tables of ``a`` is."""
    values: dict[str, Any] = {
        "source_id": A,
        "target_id": REGISTRY,
        "kind": "entities",
        "type_name": "table",
        "position": "0" * 32,
        "checked": 0,
        "turn_started_at": NOW,
        "turn_finished_at": None,
        "updated_at": at(minute),
    }
    return DriftCursor(**{**values, **fields})


def listing(**fields: Any) -> ListingCursor:
    """How far what the registry holds of ``a`` has been listed."""
    values: dict[str, Any] = {
        "source_id": A,
        "target_id": REGISTRY,
        "kind": "entities",
        "after": None,
        "listed": 0,
        "listed_last_turn": 0,
        "turn_started_at": NOW,
        "turn_finished_at": None,
        "updated_at": NOW,
    }
    return ListingCursor(**{**values, **fields})


def found_ids(store: SqlControlStore, **chosen: Any) -> list[int]:
    """The numbers of the findings that are listed."""
    return [int(each.drift_id, 16) for each in store.list_drift(**chosen)]


class TestLooks:
    def test_a_look_is_kept_as_it_was(self, control_store: SqlControlStore) -> None:
        """Cursor and findings come back as they went in, fields and what no text column keeps included."""
        fields = [{"name": "v", "is": "restored"}, {"name": "note\0s", "is": "kept"}]
        edge = finding(
            2,
            kind="relationships",
            type_name="reads",
            to_key="db/ß",
            finding="differs",
            found_digest="f" * 32,
            fields=fields,
            found_at=at(1),
        )
        control_store.record_look(cursor(1, position="a" * 32, checked=5), [finding(1), edge], [])
        assert control_store.drift_cursors(A, REGISTRY) == [cursor(1, position="a" * 32, checked=5)]
        newest, oldest = control_store.list_drift()
        assert oldest == finding(1)
        assert newest.fields == [fields[0], {"name": "note\ufffds", "is": "kept"}]
        assert (newest.to_key, newest.found_digest) == ("db/ß", "f" * 32)

    def test_a_look_that_a_worker_overtook_leaves_nothing(
        self, control_store: SqlControlStore
    ) -> None:
        """Whoever had the lane since may have written over what was seen; the same goes for asking for a repair."""
        assert control_store.lane_claims(A, REGISTRY) == 0
        batch = admit(control_store, "a", 1)
        before = control_store.lane_claims(A, REGISTRY)
        finish(control_store, must_claim(control_store))
        with pytest.raises(LaneBusy, match="Look again"):
            control_store.record_look(cursor(), [finding(1)], [], claims=before)
        assert control_store.list_drift() == []
        assert control_store.drift_cursors(A, REGISTRY) == []
        with pytest.raises(LaneBusy):
            control_store.requeue(batch, REGISTRY, now=at(2), intent=Intent.REPAIR, claims=before)
        now = control_store.lane_claims(A, REGISTRY)
        assert now > before
        control_store.record_look(cursor(), [finding(1)], [], claims=now)
        control_store.requeue(batch, REGISTRY, now=at(2), intent=Intent.REPAIR, claims=now)

    def test_cursors_are_of_one_lane_and_each_type_has_its_own(
        self, control_store: SqlControlStore
    ) -> None:
        """They come by kind and type; a later look moves one and leaves the others."""
        other = cursor(type_name="view")
        elsewhere = cursor(target_id=TargetId("warehouse"))
        for each in (other, cursor(), elsewhere, cursor(9, checked=7)):
            control_store.record_look(each, [], [])
        assert control_store.drift_cursors(A, REGISTRY) == [cursor(9, checked=7), other]
        assert control_store.drift_cursors(A, TargetId("warehouse")) == [elsewhere]
        assert control_store.drift_cursors(SourceId("b"), REGISTRY) == []

    def test_what_is_found_again_is_the_same_finding(self, control_store: SqlControlStore) -> None:
        """It says what was found last, and is open again where it had been settled."""
        control_store.record_look(cursor(), [finding(1)], [])
        control_store.settle_drift([f"{1:032x}"], DriftStatus.REPAIRED, now=at(1), plan_digest="p")
        again = finding(1, finding="differs", found_digest="f" * 32, found_at=at(2))
        control_store.record_look(cursor(2), [again], [])
        assert control_store.list_drift() == [again]

    def test_what_is_fine_again_is_gone(self, control_store: SqlControlStore) -> None:
        """Open findings and those left to people are settled as gone; repaired ones and strangers stay as they are."""
        many = [finding(n) for n in range(1, 1203)]
        left = finding(2000, status=DriftStatus.LEFT)
        control_store.record_look(cursor(), [*many, left], [])
        control_store.settle_drift([f"{1:032x}"], DriftStatus.REPAIRED, now=at(1), plan_digest="p")
        fine = [each.drift_id for each in (*many, left)]
        control_store.record_look(cursor(3), [], [*fine[:-2], left.drift_id, "f" * 32])
        assert found_ids(control_store, status=DriftStatus.OPEN) == [1202]
        assert found_ids(control_store, status=DriftStatus.REPAIRED) == [1]
        gone = control_store.list_drift(status=DriftStatus.GONE, limit=10_000)
        assert len(gone) == 1201
        assert {each.settled_at for each in gone} == {at(3)}


class TestListings:
    def test_a_listing_is_kept_as_it_was(self, control_store: SqlControlStore) -> None:
        """Where it stands comes back, with and without a name to begin after; each kind of a lane has its own."""
        name = HeldName(type_name="table", key="db/ß", to_key="db/😀")
        edges = listing(kind="relationships", after=name, listed=7, turn_finished_at=at(-1))
        for each in (edges, listing(), listing(target_id=TargetId("warehouse"))):
            control_store.record_look(each, [], [])
        assert control_store.listing_cursors(A, REGISTRY) == [listing(), edges]
        moved = listing(after=HeldName(type_name="table", key="db/a"), updated_at=at(1))
        control_store.record_look(moved, [finding(1, finding=EXTRA)], [])
        assert control_store.listing_cursors(A, REGISTRY) == [moved, edges]
        assert found_ids(control_store, finding=EXTRA) == [1]

    def test_what_a_whole_turn_did_not_find_again_is_gone(
        self, control_store: SqlControlStore
    ) -> None:
        """Of the listing's own findings alone: other kinds, and rows that are missing, are not its business."""
        extra = {"finding": EXTRA, "status": DriftStatus.LEFT}
        found = [
            finding(1, **extra),
            finding(2, **extra, found_at=at(5)),
            finding(3),
            finding(4, **extra, kind="relationships"),
            finding(5, **extra, target_id=TargetId("warehouse")),
        ]
        control_store.record_look(listing(), found, [])
        control_store.record_look(listing(turn_finished_at=at(5), updated_at=at(9)), [], [])
        gone = control_store.list_drift(status=DriftStatus.GONE)
        assert [(each.drift_id, each.settled_at) for each in gone] == [(f"{1:032x}", at(9))]

    def test_a_look_s_whole_turn_settles_its_type(self, control_store: SqlControlStore) -> None:
        """What was not found again of one type since its turn began is gone; extra rows are the listing's."""
        found = [
            finding(1),
            finding(2, found_at=at(5)),
            finding(3, type_name="view"),
            finding(4, finding=EXTRA),
        ]
        control_store.record_look(cursor(), found, [])
        control_store.record_look(cursor(9, turn_finished_at=at(5)), [], [])
        assert found_ids(control_store, status=DriftStatus.GONE) == [1]

    def test_a_type_that_nobody_knows_any_more(self, control_store: SqlControlStore) -> None:
        """Its cursor goes, and its findings are gone; other types stay as they were."""
        other = cursor(type_name="view")
        control_store.record_look(other, [finding(1, type_name="view")], [])
        control_store.record_look(cursor(), [finding(2), finding(3, finding=EXTRA)], [])
        control_store.forget_type(cursor(), now=at(1))
        assert control_store.drift_cursors(A, REGISTRY) == [other]
        assert found_ids(control_store, status=DriftStatus.GONE) == [2]


class TestFindings:
    def test_findings_are_counted(self, control_store: SqlControlStore) -> None:
        """By status and by what they are, however many, of one lane alone."""
        many = [finding(n) for n in range(1, 1203)]
        left = finding(2000, status=DriftStatus.LEFT, finding=EXTRA)
        elsewhere = finding(3000, target_id=TargetId("warehouse"))
        control_store.record_look(cursor(), [*many, left, elsewhere], [])
        assert control_store.count_drift(A, REGISTRY) == {
            (DriftStatus.OPEN, "missing"): 1202,
            (DriftStatus.LEFT, EXTRA): 1,
        }
        assert control_store.count_drift(SourceId("b"), REGISTRY) == {}

    def test_findings_are_chosen(self, control_store: SqlControlStore) -> None:
        """By source, target and status, the newest first, as many as are asked for."""
        control_store.record_look(
            cursor(),
            [
                finding(1),
                finding(2, found_at=at(2)),
                finding(3, found_at=at(1), status=DriftStatus.LEFT),
                finding(4, source_id=SourceId("b")),
                finding(5, target_id=TargetId("warehouse")),
            ],
            [],
        )
        assert found_ids(control_store) == [2, 3, 1, 4, 5]
        assert found_ids(control_store, source=A) == [2, 3, 1, 5]
        assert found_ids(control_store, source=A, target=REGISTRY) == [2, 3, 1]
        assert found_ids(control_store, target=TargetId("warehouse")) == [5]
        assert found_ids(control_store, source=A, status=DriftStatus.OPEN) == [2, 1, 5]
        assert found_ids(control_store, limit=2) == [2, 3]

    def test_only_open_findings_are_settled(self, control_store: SqlControlStore) -> None:
        """With when and by which plan; what is settled, left or unknown stays as it was."""
        left = finding(3, status=DriftStatus.LEFT)
        control_store.record_look(cursor(), [finding(1), finding(2), left], [])
        ids = [f"{n:032x}" for n in (1, 3, 9)]
        control_store.settle_drift(ids, DriftStatus.REPAIRED, now=at(1), plan_digest="p")
        control_store.settle_drift(ids, DriftStatus.GONE, now=at(2))
        kept = {int(each.drift_id, 16): each for each in control_store.list_drift()}
        assert (kept[1].status, kept[1].settled_at, kept[1].plan_digest) == ("repaired", at(1), "p")
        assert kept[2] == finding(2)
        assert kept[3] == left
        control_store.settle_drift([], DriftStatus.GONE, now=at(3))

    def test_a_repair_settles_with_its_batch(self, control_store: SqlControlStore) -> None:
        """The findings that it names are repaired in the transaction that completes it; the others wait."""
        batch = admit(control_store, "a", 1)
        finish(control_store, must_claim(control_store))
        control_store.record_look(cursor(), [finding(1), finding(2)], [])
        control_store.requeue(batch, REGISTRY, now=at(1), intent=Intent.REPAIR)
        running = start(control_store, must_claim(control_store, now=at(1)), now=at(1))
        settlement = Settlement(
            plan_digest=DIGEST, operation_ids=(), settled_by="9" * 32, drift_ids=(f"{2:032x}",)
        )
        control_store.complete(
            running, now=at(2), changes={}, head=None, ledger=None, settlement=settlement
        )
        (waiting,) = control_store.list_drift(status=DriftStatus.OPEN)
        (repaired,) = control_store.list_drift(status=DriftStatus.REPAIRED)
        assert (waiting.drift_id, repaired.drift_id) == (f"{1:032x}", f"{2:032x}")
        assert (repaired.settled_at, repaired.plan_digest) == (at(2), "9" * 32)
