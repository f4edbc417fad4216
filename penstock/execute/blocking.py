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

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.rows import Kind
from penstock.identity.ids import container_of
from penstock.identity.keys import containers_of
from penstock.plan.operations import Action


class Blocking:
    """Keys that later operations of the same plan may depend on."""

    def __init__(self) -> None:
        self._not_created: set[str] = set()
        self._not_deleted: set[str] = set()

    def failed(self, *, kind: str, action: str, key: str, to_key: str | None) -> None:
        """Note that an operation did not take effect."""
        if kind == Kind.ENTITY and action == Action.CREATE:
            self._not_created.add(key)
        elif kind == Kind.ENTITY and action == Action.DELETE:
            self._not_deleted.add(container_of(key))
        elif kind == Kind.RELATIONSHIP and action == Action.DELETE:
            self._not_deleted.update({key, to_key or ""})

    def blockers(self, operations: pa.Table) -> list[str | None]:
        """Return, per operation of one chunk, the key that blocks it, or None."""
        if not (self._not_created or self._not_deleted) or not len(operations):
            return [None] * len(operations)
        blocker: list[str | None] = [None] * len(operations)
        for row in np.flatnonzero(self._suspects(operations)).tolist():
            blocker[row] = self._blocker(operations.slice(row, 1).to_pylist()[0])
        return blocker

    def _suspects(self, operations: pa.Table) -> npt.NDArray[np.bool_]:
        keys = operations.column("key")
        values = pa.array(sorted(self._not_created | self._not_deleted), pa.string())
        containers = containers_of(keys)
        hits: Iterable[pa.ChunkedArray] = (
            pc.is_in(column, value_set=values)
            for column in (keys, containers, operations.column("to_key"))
        )
        masks = [hit.to_numpy(zero_copy_only=False).astype(bool) for hit in hits]
        return np.asarray(np.logical_or.reduce(masks), bool)

    def _blocker(self, row: dict[str, str]) -> str | None:
        kind, action, key, to_key = row["kind"], row["action"], row["key"], row["to_key"]
        if action == Action.DELETE:
            candidates = [key] if kind == Kind.ENTITY else []
            return next((c for c in candidates if c in self._not_deleted), None)
        candidates = [container_of(key)] if kind == Kind.ENTITY else [key, to_key]
        return next((c for c in candidates if c in self._not_created), None)
