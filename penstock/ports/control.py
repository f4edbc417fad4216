"""The control database: batches, the queue, publish states, execution progress and dead letters.

Every write on behalf of a claimed batch checks its fencing token in the same transaction and raises
:class:`penstock.errors.LeaseLost` if another worker has claimed the lane since. A *lane* is one source and one
target: its batches are published one at a time, strictly in order of their source timestamps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from penstock.batch.manifest import Manifest
from penstock.batch.source import SourceSpec
from penstock.identity.ids import BatchId, SourceId, TargetId
from penstock.plan.ledger import LedgerRow
from penstock.ports.approvals import Approvals
from penstock.ports.attempts import Attempts, PublishAttempt
from penstock.ports.audit_log import AuditEntry, AuditLog
from penstock.ports.breakers import Breakers
from penstock.ports.dead_letters import DeadLetter, DeadLetters
from penstock.ports.drift import Drifts
from penstock.ports.pauses import Pauses
from penstock.ports.retention import Retention
from penstock.publish.queue import Lease, QueuePlace, QueuePolicy
from penstock.publish.state import FailureDetails, Intent, Move, PublishState, PublishStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """One worker's hold on one batch and its lane."""

    state: PublishState
    worker_id: str
    fencing_token: int
    lease_expires_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchRecord:
    """A batch as admitted."""

    manifest: Manifest
    s3_path: str
    admitted_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class SnapshotHead:
    """The snapshot that is current for one source and target."""

    source_id: SourceId
    target_id: TargetId
    version: int
    """1 for the first; grows by one."""
    path: str
    """Object key of the snapshot's manifest."""
    digest: str
    batch_id: BatchId
    """The batch that it was last advanced by."""
    source_timestamp: datetime
    """Of the newest batch published by an ordinary (not a republished) plan: older batches never overwrite it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChunkRecord:
    """Progress of one chunk of one plan; ``finished_at`` is None between intent and outcome."""

    chunk: int
    operations: int
    applied: int
    already_applied: int
    failed: int
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True, slots=True)
class OperationException:
    """One operation that was planned and not applied."""

    operation_id: str
    """32 hex digits."""
    kind: str
    type_name: str
    key: str
    to_key: str | None
    action: str
    outcome: str
    """``refused`` by validation, ``held`` by a guard, ``rejected`` or ``conflict`` by the target, ``blocked``, or
    ``lost``: the target said that it took effect, and it did not."""
    code: str
    message: str
    guard: str | None = None
    """What holds it, where it is held."""
    blocked_by: str | None = None
    """Operation id of the culprit at the root, where it is blocked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BegunExecution:
    """One plan whose execution was begun: some of its operations may have taken effect."""

    plan_digest: str
    batch_id: BatchId
    target_id: TargetId
    source_id: SourceId
    intent: Intent
    plan_path: str
    snapshot_before: int
    """Version."""
    operations: int
    started_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanExecution(BegunExecution):
    """One plan that was executed to its end, or as far as it came before it was given up."""

    snapshot_after: int
    """Version; that from before where the snapshot did not move."""
    applied: int
    already_applied: int
    exceptions: int
    finished_at: datetime


@dataclass(frozen=True, kw_only=True, slots=True)
class Settlement:
    """What a follow-up makes up for: exceptions of the batch's own plan, by operation id in hex, in pages."""

    plan_digest: str
    """Of the plan whose exceptions they are."""
    operation_ids: Iterable[Sequence[str]]
    """In memory: nobody waits for a store in the transaction that writes them."""
    settled_by: str
    """Digest of the plan, or id of the batch, that did."""
    drift_ids: tuple[str, ...] = ()
    """Findings of a drift audit that it repairs."""
    supersedes_rest: bool = False
    """Whether all else that could have been released of that plan is settled as :data:`SUPERSEDED`."""


SUPERSEDED = "superseded"
"""What settles an operation that was held and is not what a newer batch left it to be."""


class Sources(Protocol):
    """What sources are declared, as the last loaded code location said."""

    def sync_sources(self, specs: Iterable[SourceSpec]) -> None:
        """Make the stored declarations equal these; sources no longer declared are marked undeclared."""
        ...

    def list_sources(self) -> list[SourceSpec]:
        """Return the declared sources by id."""
        ...

    def get_source(self, source: SourceId) -> SourceSpec:
        """Return one declared source, or raise ``UndeclaredSource``."""
        ...


class Batches(Protocol):
    """What batches have been admitted."""

    def admit(self, record: BatchRecord, states: Sequence[PublishState]) -> bool:
        """Record a batch and its PENDING publish states in one transaction; False if it is known already.

        A correction's manifest says who asked for it, and which dead letters it tries again: the act goes into the
        audit log and the letters are on their way in the same transaction, whoever admits it.
        """
        ...

    def get_batch(self, batch: BatchId) -> BatchRecord:
        """Return an admitted batch, or raise ``NotFound``."""
        ...

    def known_batches(self, batches: Sequence[BatchId]) -> set[BatchId]:
        """Return those of ``batches`` that have been admitted or dead-lettered."""
        ...

    def list_batches(
        self,
        *,
        source: SourceId | None = None,
        sources: Collection[SourceId] | None = None,
        limit: int = 100,
        after: BatchId | None = None,
    ) -> list[BatchRecord]:
        """Return batches, newest source timestamp first; with ``sources`` those of these alone.

        With ``after`` those that follow this one, whether it is there or not.
        """
        ...


class PublishQueue(Protocol):
    """Who may publish what next."""

    def claim(
        self,
        worker_id: str,
        *,
        now: datetime,
        lease_s: float,
        policy: QueuePolicy,
        only: Sequence[tuple[BatchId, TargetId]] | None = None,
    ) -> Claim | None:
        """Take the next batch, or None if nothing is due. Its status becomes PLANNING.

        A lane is open when its lease is free or expired. In an open lane only the oldest waiting (or
        abandoned: in hand with an expired lease) batch can be taken, and none while a delta batch newer than
        the snapshot stands FAILED in front of it; one that is half executed goes before any other. Lanes that are
        paused, whose target's breaker is open, or that would go over a limit of ``policy`` are passed over. Among
        the rest the highest score wins. ``only`` restricts the choice to given batches; order within the lane
        still holds for them.
        """
        ...

    def renew(self, claim: Claim, *, now: datetime, lease_s: float) -> Claim:
        """Extend a lease, or raise ``LeaseLost``."""
        ...

    def list_leases(self, *, now: datetime) -> list[Lease]:
        """Return the leases that are in force, by expiry."""
        ...

    def explain_queue(self, *, now: datetime, policy: QueuePolicy) -> list[QueuePlace]:
        """Return every waiting batch in the order it would be claimed, with the arithmetic of its place."""
        ...

    def boost(
        self,
        batch: BatchId,
        target: TargetId,
        boost: float,
        *,
        expected: float | None = None,
        act: AuditEntry | None = None,
    ) -> PublishState:
        """Set an operator's boost on a waiting batch, and record ``act`` in the same transaction.

        Raises ``IllegalMove`` for any other batch, ``ChangedMeanwhile`` where the boost is not ``expected`` any more.
        """
        ...

    def cancel(
        self,
        batch: BatchId,
        target: TargetId,
        *,
        now: datetime,
        message: str,
        act: AuditEntry | None = None,
    ) -> PublishState:
        """Take a waiting batch out of the queue: it is FAILED as ``cancelled``, a follow-up is withdrawn.

        ``act`` is recorded in the same transaction. Raises ``IllegalMove`` for what is in hand or settled, and for a
        follow-up that is half executed.
        """
        ...


class PublishStates(Protocol):
    """The life of each batch on its way to each target."""

    def get_state(self, batch: BatchId, target: TargetId) -> PublishState:
        """Return one publish state, or raise ``NotFound``."""
        ...

    def list_states(
        self,
        *,
        batch: BatchId | None = None,
        source: SourceId | None = None,
        sources: Collection[SourceId] | None = None,
        target: TargetId | None = None,
        statuses: Sequence[PublishStatus] = (),
        held_only: bool = False,
        limit: int = 1000,
    ) -> list[PublishState]:
        """Return publish states, newest source timestamp first; ``held_only`` those that a guard holds something of."""
        ...

    def advance(
        self,
        claim: Claim,
        move: Move,
        *,
        now: datetime,
        changes: Mapping[str, Any] | None = None,
        attempt: PublishAttempt | None = None,
        begun: BegunExecution | None = None,
    ) -> Claim:
        """Make one move under a claim, with other fields of the state; a move out of hand ends the lease.

        ``attempt``, which failed and so led to the move, is recorded with it; where it is given up (FAIL), so is a
        dead letter of the batch. ``begun`` is what a START begins.
        """
        ...

    def requeue(
        self,
        batch: BatchId,
        target: TargetId,
        *,
        now: datetime,
        intent: Intent,
        act: AuditEntry | None = None,
        claims: int | None = None,
    ) -> PublishState:
        """Put a batch back in the queue on an operator's word (COMPLETE or FAILED to PENDING).

        Unless it is for a follow-up, its dead letters are on their way with it; they, and ``act``, are recorded in the
        same transaction. Raises ``LaneBusy`` if the lane was claimed since it had been ``claims`` times.
        """
        ...

    def complete(
        self,
        claim: Claim,
        *,
        now: datetime,
        changes: Mapping[str, Any],
        head: SnapshotHead | None,
        ledger: Sequence[LedgerRow] | None,
        execution: PlanExecution | None = None,
        settlement: Settlement | None = None,
    ) -> PublishState:
        """In one transaction: SUCCEED, advance the snapshot, store the ledger and the execution, end the lease.

        Without ``head`` the snapshot stays, without ``ledger`` the recorded one. What ``settlement`` names is settled
        first; then the state's ``exceptions``, ``held``, ``blocked`` and ``rejected`` are counted from what is not.
        """
        ...

    def withdraw(
        self,
        claim: Claim,
        *,
        now: datetime,
        changes: Mapping[str, Any],
        attempt: PublishAttempt,
        settlement: Settlement | None = None,
        ledger: Sequence[LedgerRow] | None = None,
    ) -> Claim:
        """In one transaction: WITHDRAW, record why, settle, store the ledger, and end the lease.

        With ``settlement`` the approval behind is void, and the state's counts are of what is not settled.
        """
        ...

    def get_ledger(self, batch: BatchId, target: TargetId) -> list[LedgerRow]:
        """Return the conservation ledger of a COMPLETE batch, by kind and type."""
        ...

    def recent_ledgers(
        self, source: SourceId, target: TargetId, *, other_than: BatchId, limit: int
    ) -> list[list[LedgerRow]]:
        """Return the ledgers of a lane's newest COMPLETE batches but one, newest source timestamp first."""
        ...

    def snapshot_head(self, source: SourceId, target: TargetId) -> SnapshotHead | None:
        """Return the current snapshot, or None before the first publish."""
        ...


class Executions(Protocol):
    """How far each plan has been executed."""

    def chunks(self, plan_digest: str, batch: BatchId, target: TargetId) -> dict[int, ChunkRecord]:
        """Return what is recorded of a plan's chunks."""
        ...

    def start_chunk(self, claim: Claim, chunk: int, operations: int, *, now: datetime) -> None:
        """Record the intent to apply a chunk, before it is sent."""
        ...

    def finish_chunk(
        self,
        claim: Claim,
        chunk: int,
        *,
        applied: int,
        already_applied: int,
        exceptions: Sequence[OperationException],
        data: Mapping[str, str] | None = None,
        now: datetime,
    ) -> None:
        """Record what became of a chunk; what no retry mends becomes a dead letter in the same transaction.

        ``data`` are the attributes, as planned, of such operations, by operation id in hex.
        """
        ...

    def note_answer(self, claim: Claim, *, now: datetime) -> None:
        """Note that the target answers, in the middle of a chunk that takes it many calls."""
        ...

    def record_exceptions(
        self, claim: Claim, exceptions: Iterable[OperationException], *, now: datetime
    ) -> None:
        """Record operations of the plan that are never sent (refused, held); again is no error."""
        ...

    def list_exceptions(
        self, batch: BatchId, target: TargetId, *, limit: int = 1000
    ) -> list[OperationException]:
        """Return what was planned and not applied, by operation id: of the batch's plan and of its follow-up.

        What a follow-up or a correction has made up for is not among it.
        """
        ...

    def plan_exceptions(
        self, batch: BatchId, target: TargetId, plan_digest: str
    ) -> Iterator[OperationException]:
        """Yield what one plan did not apply, settled or not, by operation id, in bounded memory."""
        ...

    def blocked_exceptions(
        self, batch: str, target: str, operation_ids: Sequence[str]
    ) -> list[OperationException]:
        """Return the open exceptions that some operations block, by operation id."""
        ...

    def list_executions(self, batch: BatchId, target: TargetId) -> list[PlanExecution]:
        """Return the plans of a batch that were executed to their end, or given up half-way, oldest first."""
        ...

    def begun_executions(self, source: SourceId, target: TargetId) -> list[BegunExecution]:
        """Return the plans of a lane whose execution was begun and has not ended, oldest first.

        One may be under way; the others were given up with their batch: what took effect of them is in no snapshot.
        """
        ...

    def end_execution(
        self, claim: Claim, execution: PlanExecution, head: SnapshotHead | None
    ) -> None:
        """Record how far a plan came that was given up, in one transaction with the snapshot that says so.

        ``claim`` is on the plan's lane, on behalf of whatever batch. Without ``head`` the snapshot stays.
        """
        ...


class ControlStore(
    Sources,
    Batches,
    PublishQueue,
    PublishStates,
    Executions,
    DeadLetters,
    Approvals,
    Attempts,
    AuditLog,
    Breakers,
    Pauses,
    Drifts,
    Retention,
    Protocol,
):
    """All of the control database, as use cases take it."""


__all__ = [
    "BatchRecord",
    "Batches",
    "BegunExecution",
    "ChunkRecord",
    "Claim",
    "ControlStore",
    "DeadLetter",
    "DeadLetters",
    "Executions",
    "FailureDetails",
    "Lease",
    "OperationException",
    "PublishQueue",
    "PublishStates",
    "SnapshotHead",
    "Sources",
]
