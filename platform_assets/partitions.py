"""Partitions: one per batch, with source and timestamp as the two dimensions that a person sees and filters by.

The timestamps of each source are a dynamic dimension of its own, named ``penstock/<source>`` because the names of
dynamic partitions are shared by all code locations of an instance. Dagster advises at most :data:`BUDGET`
partitions an asset; retention takes old ones out long before. The control database, not Dagster, is the truth about
batches: a partition that is missing here is added when its batch is seen again.
"""

from __future__ import annotations

from functools import cache

import dagster as dg

from penstock.identity import ids
from penstock.identity.ids import BatchId, SourceId

BUDGET = 100_000
SOURCE, TIMESTAMP = "source", "timestamp"


def dynamic_name(source: SourceId) -> str:
    """Return the name of the dynamic dimension that holds a source's timestamps."""
    return f"penstock/{source}"


@cache
def partitions_of(source: SourceId) -> dg.MultiPartitionsDefinition:
    """Return the partitions of a source's assets."""
    return dg.MultiPartitionsDefinition(
        {
            SOURCE: dg.StaticPartitionsDefinition([source]),
            TIMESTAMP: dg.DynamicPartitionsDefinition(name=dynamic_name(source)),
        }
    )


def partition_key(batch: BatchId) -> dg.MultiPartitionKey:
    """Return the partition of a batch, shown as ``source|timestamp``."""
    source, timestamp = ids.split_batch_id(batch)
    return dg.MultiPartitionKey({SOURCE: source, TIMESTAMP: ids.timestamp_text(timestamp)})


def batch_of(key: str) -> BatchId:
    """Return the batch of a partition key."""
    source, _, timestamp = str(key).partition("|")
    return ids.batch_id(ids.source_id(source), ids.timestamp_from_text(timestamp))


def add_partitions(instance: dg.DagsterInstance, batches: list[BatchId]) -> None:
    """Make batches known to Dagster; those that are known already change nothing."""
    by_source: dict[SourceId, list[str]] = {}
    for batch in batches:
        source, timestamp = ids.split_batch_id(batch)
        by_source.setdefault(source, []).append(ids.timestamp_text(timestamp))
    for source, timestamps in by_source.items():
        instance.add_dynamic_partitions(dynamic_name(source), timestamps)
