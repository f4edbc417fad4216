"""What a manifest says of the trace that its batch belongs to."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from penstock.batch.manifest import Manifest, Mode, read_manifest
from penstock.identity.ids import SourceId

AT = datetime(2026, 1, 1, tzinfo=UTC)
TRACED = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"


def manifest(**fields: Any) -> Manifest:
    """A manifest of a batch without rows."""
    source, mode = SourceId("crm"), Mode.FULL
    return Manifest(
        source_id=source, source_timestamp=AT, processing_timestamp=AT, mode=mode, **fields
    )


def test_a_trace_is_written_and_read() -> None:
    """As whoever landed the batch knew it."""
    written = manifest(trace_parent=TRACED).to_json()
    assert read_manifest(written, where="here").trace_parent == TRACED


def test_a_manifest_without_a_trace_has_the_bytes_that_it_always_had() -> None:
    """The address of its plan follows from them."""
    written = manifest().to_json()
    assert "trace_parent" not in json.loads(written)
    assert list(json.loads(written))[-1] == "corrects"
    assert read_manifest(written, where="here") == manifest()


@pytest.mark.parametrize("bad", ["", "no trace", TRACED.upper(), TRACED * 1000, 7, ["x"], None])
def test_a_trace_that_is_none_costs_no_batch(bad: object) -> None:
    """It is as if it were left out: what the batch brings counts all the same."""
    document = {**json.loads(manifest().to_json()), "trace_parent": bad}
    assert read_manifest(json.dumps(document).encode(), where="here") == manifest()
