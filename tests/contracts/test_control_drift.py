"""What audits found, on SQLite and PostgreSQL: looks are recorded whole, and findings go from open to settled once."""

from __future__ import annotations

from typing import Any

from penstock.identity.ids import SourceId, TargetId
from penstock.ports.control import Settlement
from penstock.ports.drift import Drift, DriftCursor, DriftStatus
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


class TestFindings:
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
