"""What a failure blocks: operations that depend on one that did not take effect are not sent.

========================================  ===================================================
did not take effect                       is blocked
========================================  ===================================================
an entity's create                        creates below its key; relationships that end at it
a relationship's delete                   deletes of the entities at its ends
an entity's delete                        the delete of its container
========================================  ===================================================
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.identity.ids import container_of
from penstock.identity.keys import containers_of
from penstock.plan.operations import Action


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocker:
    """What keeps an operation from being sent."""

    key: str
    """Of the entity whose own operation did not take effect."""
    culprit: str
    """Operation id, in hex, of what is at the root of it."""


class Blocking:
    """Keys that later operations of the same plan may depend on."""

    def __init__(self) -> None:
        self._not_created: dict[str, str] = {}
        self._not_deleted: dict[str, str] = {}

    def failed(self, *, kind: str, action: str, key: str, to_key: str | None, culprit: str) -> None:
        """Note that an operation did not take effect; ``culprit`` is the id of the one that is at the root of it."""
        if kind == Kind.ENTITY and action == Action.CREATE:
            self._not_created.setdefault(key, culprit)
        elif kind == Kind.ENTITY and action == Action.DELETE:
            self._not_deleted.setdefault(container_of(key), culprit)
        elif kind == Kind.RELATIONSHIP and action == Action.DELETE:
            self._not_deleted.setdefault(key, culprit)
            self._not_deleted.setdefault(to_key or "", culprit)

    def blockers(self, operations: pa.Table) -> list[Blocker | None]:
        """Return, per operation of one chunk, what blocks it, or None."""
        if not (self._not_created or self._not_deleted) or not len(operations):
            return [None] * len(operations)
        blocker: list[Blocker | None] = [None] * len(operations)
        for row in np.flatnonzero(self._suspects(operations)).tolist():
            blocker[row] = self._blocker(operations.slice(row, 1).to_pylist()[0])
        return blocker

    def _suspects(self, operations: pa.Table) -> npt.NDArray[np.bool_]:
        keys = operations.column("key")
        values = pa.array(sorted({*self._not_created, *self._not_deleted}), pa.string())
        containers = containers_of(keys)
        hits: Iterable[pa.ChunkedArray] = (
            pc.is_in(column, value_set=values)
            for column in (keys, containers, operations.column("to_key"))
        )
        masks = [hit.to_numpy(zero_copy_only=False).astype(bool) for hit in hits]
        return np.asarray(np.logical_or.reduce(masks), bool)

    def _blocker(self, row: dict[str, str]) -> Blocker | None:
        kind, action, key, to_key = row["kind"], row["action"], row["key"], row["to_key"]
        if action == Action.DELETE:
            candidates, failed = [key] if kind == Kind.ENTITY else [], self._not_deleted
        else:
            candidates = [container_of(key)] if kind == Kind.ENTITY else [key, to_key]
            failed = self._not_created
        return next((Blocker(key=c, culprit=failed[c]) for c in candidates if c in failed), None)
