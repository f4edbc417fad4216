"""S3 on a bad day changes nothing but the time it takes: errors, truncated bodies, lost answers, listings that lag."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from penstock.identity.ids import TargetId
from tests.crash.observe import Seen, differences, observe
from tests.crash.scenario import START, STEPS, StepClock, Worker, definition
from tests.crash.worlds import Worlds
from tests.fixtures.http_endpoint import Endpoint
from tests.fixtures.s3_proxy import Faults, faulty_s3

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def lived(folder: Path, s3: S3Client, endpoint_url: str, unused: Endpoint) -> Seen:
    """Run a source's life with its objects behind an S3 endpoint, and return what came of it."""
    bucket = f"t-{uuid4().hex}"
    s3.create_bucket(Bucket=bucket)
    more = {
        "objects_url": f"s3://{bucket}/penstock",
        "s3_endpoint_url": endpoint_url,
        "s3_region": "us-east-1",
        "s3_path_style": True,
    }
    worlds = Worlds("sqlite", TargetId("registry"), folder, unused, None, more)
    platform = worlds.open()
    platform = replace(platform, clock=StepClock(START + timedelta(days=30)))
    platform.control.sync_sources([definition(1, worlds.target).spec])
    for step in STEPS:
        step.run(Worker(platform, "worker", worlds))
    seen = observe(worlds, platform, same_plans=False)
    platform.control.engine.dispose()  # type: ignore[attr-defined]
    platform.targets[TargetId("tables")].engine.dispose()  # type: ignore[attr-defined]
    return seen


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    s3: S3Client,
    s3_endpoint_url: str,
    http_endpoint: Endpoint,
) -> Seen:
    return lived(tmp_path_factory.mktemp("undisturbed"), s3, s3_endpoint_url, http_endpoint)


@pytest.mark.parametrize(
    ("faults", "suffered"),
    [
        (Faults(internal_error_every=60), "internal error"),
        (Faults(slow_down_every=60), "slow down"),
        (Faults(truncate_every=7), "truncated"),
        (Faults(lost_answer_every=9), "lost answer"),
        (Faults(empty_listings=3), "lagging list"),
    ],
    ids=["internal error", "slow down", "truncated", "lost answer", "lagging list"],
)
def test_a_bad_day_changes_nothing(
    faults: Faults,
    suffered: str,
    tmp_path: Path,
    s3: S3Client,
    s3_endpoint_url: str,
    http_endpoint: Endpoint,
    undisturbed: Seen,
) -> None:
    """Whatever S3 does to requests, target, snapshot and publish states equal those of an undisturbed run."""
    with faulty_s3(s3_endpoint_url, faults) as endpoint_url:
        seen = lived(tmp_path, s3, endpoint_url, http_endpoint)
    assert differences(undisturbed, seen) == []
    assert faults.counts[suffered] > 0
