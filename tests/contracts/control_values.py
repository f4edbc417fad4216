"""Values that the tests of the control database are made of, with a line for each that matters to a test."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.batch.manifest import Manifest, Mode
from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.ledger import LedgerRow
from penstock.ports.control import (
    BatchRecord,
    Claim,
    ControlStore,
    OperationException,
    SnapshotHead,
)
from penstock.publish.queue import QueuePolicy
from penstock.publish.state import FailureDetails, Move, PublishState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
REGISTRY = TargetId("registry")
POLICY = QueuePolicy(answer_within_s=None)
"""Many claims at one moment, and nobody who answers: whatever is not about that does without waiting for it."""
DIGEST = "d" * 32


def at(minute: float) -> datetime:
    """The moment some minutes after the tests' beginning."""
    return NOW + timedelta(minutes=minute)


def batch_id(source: str, minute: float) -> BatchId:
    """The id of the batch of a source at ``at(minute)``."""
    return ids.batch_id(SourceId(source), at(minute))


def record(source: str, minute: float, mode: str = "full") -> BatchRecord:
    """A batch as admitted."""
    manifest = Manifest(
        source_id=SourceId(source),
        source_timestamp=at(minute),
        processing_timestamp=at(minute),
        mode=Mode(mode),
    )
    return BatchRecord(manifest=manifest, s3_path=f"s3://b/{source}/{minute}", admitted_at=NOW)


def pending(of: BatchRecord, target: str = "registry", **fields: Any) -> PublishState:
    """The PENDING publish state of a batch."""
    values: dict[str, Any] = {
        "batch_id": of.manifest.batch_id,
        "source_id": of.manifest.source_id,
        "target_id": TargetId(target),
        "s3_path": of.s3_path,
        "source_timestamp": of.manifest.source_timestamp,
        "processing_timestamp": of.manifest.processing_timestamp,
        "enqueued_at": NOW,
    }
    return PublishState(**{**values, **fields})


def admit(
    store: ControlStore,
    source: str,
    minute: float,
    *,
    mode: str = "full",
    targets: Iterable[str] = ("registry",),
    **fields: Any,
) -> BatchId:
    """Admit a batch and return its id."""
    batch = record(source, minute, mode)
    assert store.admit(batch, [pending(batch, target, **fields) for target in targets])
    return batch.manifest.batch_id


def claim(
    store: ControlStore, worker: str = "w1", *, now: datetime = NOW, **options: Any
) -> Claim | None:
    """Claim with a lease of a minute."""
    return store.claim(worker, now=now, lease_s=60, policy=POLICY, **options)


def must_claim(store: ControlStore, worker: str = "w1", **options: Any) -> Claim:
    """Claim what is there to be claimed."""
    claimed = claim(store, worker, **options)
    assert claimed is not None
    return claimed


def start(store: ControlStore, claimed: Claim, *, now: datetime = NOW) -> Claim:
    """Bring a claim to EXECUTING."""
    changes = {"plan_digest": DIGEST, "execution_plan_path": "plans/p"}
    planned = store.advance(claimed, Move.PLANNED, now=now, changes=changes)
    return store.advance(planned, Move.START, now=now)


def head_after(store: ControlStore, claimed: Claim) -> SnapshotHead:
    """The snapshot that follows from publishing a claimed batch."""
    state = claimed.state
    old = store.snapshot_head(state.source_id, state.target_id)
    newest = state.source_timestamp
    if old and state.republish:
        newest = old.source_timestamp
    version = old.version + 1 if old else 1
    return SnapshotHead(
        source_id=state.source_id,
        target_id=state.target_id,
        version=version,
        path=f"snapshots/{state.source_id}/{version}",
        digest="e" * 32,
        batch_id=state.batch_id,
        source_timestamp=newest,
    )


def finish(
    store: ControlStore,
    claimed: Claim,
    *,
    now: datetime = NOW,
    ledger: Iterable[LedgerRow] = (),
    **changes: Any,
) -> PublishState:
    """Publish a claimed batch to its end."""
    running = start(store, claimed, now=now)
    head = head_after(store, claimed)
    return store.complete(running, now=now, changes=changes, head=head, ledger=list(ledger))


def publish(store: ControlStore, *, now: datetime = NOW) -> BatchId:
    """Claim the next batch and publish it; return its id."""
    return finish(store, must_claim(store, now=now), now=now).batch_id


def failure(code: str = "boom") -> FailureDetails:
    """Why something failed."""
    return FailureDetails(error_code=code, error_message="it went wrong")


def fail(store: ControlStore, claimed: Claim, *, now: datetime = NOW) -> None:
    """Fail a claimed batch for good."""
    store.advance(claimed, Move.FAIL, now=now, changes={"failure_details": failure()})


def exception(number: int, **fields: Any) -> OperationException:
    """An operation that was not applied."""
    values: dict[str, Any] = {
        "operation_id": f"{number:032x}",
        "kind": "entities",
        "type_name": "table",
        "key": f"db/t{number}",
        "to_key": None,
        "action": "create",
        "outcome": "rejected",
        "code": "bad_value",
        "message": "the target refused it",
    }
    return OperationException(**{**values, **fields})
