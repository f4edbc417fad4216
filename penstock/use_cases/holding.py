"""What guards hold of one plan: judged by type or by row, what depends on it blocked, and all of it summed up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.guard_policy import GuardPolicy
from penstock.batch.rows import Kind
from penstock.identity.canonical import value_of
from penstock.identity.keys import containers_of
from penstock.plan.build import judged
from penstock.plan.guards import (
    NEVER_RELEASED,
    PROTECTED,
    Hold,
    Verdict,
    held_types,
    held_update_types,
    may_protect,
    protected_verdict,
    protects,
)
from penstock.plan.operations import DIGEST
from penstock.plan.operations import Verdict as OperationVerdict
from penstock.use_cases.known_rows import KnownRows

SAMPLE = 10
MOST_HELD = 200_000
MOST_KNOWN = 2_000_000
"""Beyond these, what stands behind a hold is not counted."""
_MOST_DEPTH = 100
TypeKey = tuple[Kind, str]


@dataclass
class _Tally:
    operations: int = 0
    sample: list[str] = field(default_factory=list)
    keys: list[pa.Array] = field(default_factory=list)


class Holding:
    """The holds of one plan."""

    def __init__(self, policy: GuardPolicy, verdicts: Sequence[Verdict]) -> None:
        self._policy = policy
        self._verdicts = tuple(verdicts)
        self.deletes = held_types(verdicts)
        """Types whose deletes are held, with the guard's words."""
        self.updates = held_update_types(verdicts)
        self._above: dict[str, bytes] = {}
        self._ends: dict[str, bytes] = {}
        self._stay: dict[str, bytes] = {}
        """By the key of what they block: held deletes that are never released."""
        self._tallies: dict[tuple[str, Kind, str, str], _Tally] = {}
        self._protected = 0

    def may_stay(self, type_name: str, key: str) -> bool:
        """Say whether an entity that the batch does not have could be protected."""
        return may_protect(self._policy, type_name, key)

    def concerns(self, kind: Kind, type_name: str) -> bool:
        """Say whether deletes of a type could be held."""
        rules = kind is Kind.ENTITY and bool(self._policy.protected)
        return rules or (kind, type_name) in self.deletes

    # Judging ------------------------------------------------------------------------------------------------

    def judge_deletes(self, kind: Kind, type_name: str, operations: pa.Table) -> pa.Table:
        """Hold the deletes that are protected, and all of a type that a guard holds."""
        if kind is Kind.ENTITY and self._policy.protected:
            operations = self._judge_protected(type_name, operations)
        return _held(operations, self.deletes.get((kind, type_name)))

    def judge_updates(self, kind: Kind, type_name: str, operations: pa.Table) -> pa.Table:
        """Hold all updates of a type that a guard holds."""
        return _held(operations, self.updates.get((kind, type_name)))

    def _judge_protected(self, type_name: str, operations: pa.Table) -> pa.Table:
        names = operations.select(["key", "before_attributes"]).to_pylist()
        mask = np.array([self._protects(type_name, row) for row in names], bool)
        reason = f"{PROTECTED}: the policy never lets it be deleted"
        return _held(operations, reason, mask)

    def _protects(self, type_name: str, row: dict[str, str]) -> bool:
        if not may_protect(self._policy, type_name, row["key"]):
            return False
        return protects(
            self._policy, type_name, row["key"], value_of(row["before_attributes"] or "{}")
        )

    # What depends on it -------------------------------------------------------------------------------------

    def note(self, operations: pa.Table) -> None:
        """Note held deletes, before anything that may depend on them is judged.

        Of several culprits one that is never released counts: what it blocks must not go with the release of others.
        """
        held = operations.filter(pc.equal(operations["verdict"], OperationVerdict.HELD.value))
        columns = ["operation_id", "kind", "key", "to_key", "guard"]
        for row in held.select(columns).to_pylist():
            entity = row["kind"] == Kind.ENTITY
            culprits = self._above if entity else self._ends
            if row["guard"] in NEVER_RELEASED:
                culprits = self._stay
            for key in ancestors(row["key"]) if entity else (row["key"], row["to_key"]):
                culprits.setdefault(key, row["operation_id"])

    def block_deletes(self, operations: pa.Table) -> pa.Table:
        """Block deletes of entities that contain, or stand at the end of, what is held."""
        if not (self._stay or self._above or self._ends) or not len(operations):
            return operations
        keys = operations["key"].to_pylist()
        culprits = [
            self._stay.get(key) or self._above.get(key) or self._ends.get(key) for key in keys
        ]
        mask = np.array([culprit is not None for culprit in culprits], bool)
        reasons = ["something that it contains, or a relationship of it, is held"] * len(keys)
        return judged(
            operations,
            mask,
            OperationVerdict.BLOCKED,
            pa.array(reasons),
            blocked_by=pa.array(culprits, DIGEST),
        )

    # Summing up ---------------------------------------------------------------------------------------------

    def tally(self, operations: pa.Table) -> None:
        """Count what is held of some operations, all of one type and action."""
        held = operations.filter(pc.equal(operations["verdict"], OperationVerdict.HELD.value))
        if not len(held):
            return
        for guard in pc.unique(held["guard"]).to_pylist():
            rows = held.filter(pc.equal(held["guard"], guard))
            first = rows.slice(0, 1).to_pylist()[0]
            name = (guard, Kind(first["kind"]), first["type_name"], first["action"])
            tally = self._tallies.setdefault(name, _Tally())
            tally.operations += len(rows)
            missing = SAMPLE - len(tally.sample)
            tally.sample += [_name(row) for row in rows.slice(0, missing).to_pylist()]
            if tally.operations <= MOST_HELD:
                tally.keys += rows["key"].chunks
            self._protected += len(rows) if guard == PROTECTED else 0

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return all verdicts, that of ``protected`` included, which is known only now."""
        return (*self._verdicts, protected_verdict(self._policy, self._protected))

    def holds(self, known: KnownRows) -> tuple[Hold, ...]:
        """Return what is held, with what stands behind it in the snapshot."""
        return tuple(
            Hold(
                guard=guard,
                kind=kind,
                type_name=type_name,
                action=action,
                operations=tally.operations,
                sample=tuple(tally.sample),
                entities_behind=_entities_below(known, kind, tally),
                relationships_behind=_relationships_at(known, kind, tally),
                releasable=guard not in NEVER_RELEASED,
            )
            for (guard, kind, type_name, action), tally in sorted(self._tallies.items())
        )


def _held(
    operations: pa.Table, reason: str | None, mask: npt.NDArray[np.bool_] | None = None
) -> pa.Table:
    if reason is None or not len(operations):
        return operations
    n = len(operations)
    guard = reason.partition(":")[0]
    return judged(
        operations,
        np.ones(n, bool) if mask is None else mask,
        OperationVerdict.HELD,
        pa.repeat(pa.scalar(reason), n),
        guard=pa.repeat(pa.scalar(guard), n),
    )


def ancestors(key: str) -> Iterator[str]:
    """Yield the keys of all that contains an entity, the nearest first."""
    while "/" in key:
        key = key.rpartition("/")[0]
        yield key


def _name(row: dict[str, str | None]) -> str:
    return str(row["key"]) if row["to_key"] is None else f"{row['key']} -> {row['to_key']}"


def _known_rows(known: KnownRows, kind: Kind) -> int:
    return sum(totals.rows for totals in known.view.totals(kind).values())


def _too_many(known: KnownRows, kind: Kind, tally: _Tally) -> bool:
    return tally.operations > MOST_HELD or _known_rows(known, kind) > MOST_KNOWN


def _entities_below(known: KnownRows, kind: Kind, tally: _Tally) -> int | None:
    """Count the known entities below what is held, that are not held themselves."""
    if kind is not Kind.ENTITY:
        return 0
    if _too_many(known, Kind.ENTITY, tally):
        return None
    held = _values(tally.keys)
    below = 0
    for rows in _scanned(known, Kind.ENTITY):
        keys = rows["entity_key"]
        below += int((_lie_below(keys, held) & ~_among(keys, held)).sum())
    return below


def _lie_below(keys: pa.ChunkedArray, held: pa.Array) -> npt.NDArray[np.bool_]:
    below = np.zeros(len(keys), bool)
    above = containers_of(keys)
    for _ in range(_MOST_DEPTH):
        if not pc.any(pc.not_equal(above, "")).as_py():
            break
        below |= _among(above, held)
        above = containers_of(above)
    return below


def _relationships_at(known: KnownRows, kind: Kind, tally: _Tally) -> int | None:
    """Count the known relationships that begin or end at held entities."""
    if kind is not Kind.ENTITY:
        return 0
    if _too_many(known, Kind.RELATIONSHIP, tally):
        return None
    held = _values(tally.keys)
    return sum(
        int((_among(rows["from_key"], held) | _among(rows["to_key"], held)).sum())
        for rows in _scanned(known, Kind.RELATIONSHIP)
    )


def _scanned(known: KnownRows, kind: Kind) -> Iterator[pa.Table]:
    for type_name in known.view.types(kind):
        for _, _, rows in known.scan(kind, type_name):
            yield rows


def _values(pieces: Iterable[pa.Array]) -> pa.Array:
    return pa.chunked_array(list(pieces), pa.string()).combine_chunks()


def _among(keys: pa.ChunkedArray, values: pa.Array) -> npt.NDArray[np.bool_]:
    return np.asarray(pc.is_in(keys, value_set=values).to_numpy(), bool)
