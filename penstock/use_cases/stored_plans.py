"""Reading stored plans: the document and its operations, each only if it is what was recorded."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from penstock.plan.document import PLAN_NAME, read_plan_document
from penstock.plan.files import read_chunks
from penstock.ports.object_store import ObjectStore
from penstock.use_cases.plan_batch import StoredPlan


def open_plan(objects: ObjectStore, path: str, *, expected_digest: str | None) -> StoredPlan:
    """Read ``plan.json``; raises ``PlanChanged`` if its digest is not the expected one."""
    document = read_plan_document(objects.get(path), where=path, expected_digest=expected_digest)
    return StoredPlan(document=document, prefix=path.removesuffix(PLAN_NAME))


def plan_chunks(
    objects: ObjectStore, plan: StoredPlan, *, columns: list[str] | None = None
) -> Iterator[pa.Table]:
    """Yield a plan's operations in the order of execution, by the chunk."""
    for file in plan.document.waves:
        where = plan.prefix + file.path
        yield from read_chunks(file, objects.get(where), where=where, columns=columns)
