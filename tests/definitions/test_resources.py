"""The platform as a Dagster resource: on a folder, and on S3 through dagster-aws."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from penstock.ports.object_store import ObjectStore
from resources.dagster_resources import PlatformResource, platform_resource
from resources.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_one_process_opens_the_platform_once(home: object) -> None:
    """Resources of the same settings give the same platform, so that its cache and connections are shared."""
    first, again = platform_resource(Settings.from_env()), platform_resource(Settings.from_env())
    assert first.open() is again.open()
    assert PlatformResource().open() is not first.open()


def test_s3_is_reached_through_dagster_aws(
    s3: S3Client, s3_bucket: str, s3_endpoint_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an s3:// address, what the platform writes is in that bucket, by dagster-aws's own client."""
    monkeypatch.setenv("PENSTOCK_OBJECTS_URL", f"s3://{s3_bucket}/some/prefix")
    monkeypatch.setenv("PENSTOCK_S3_ENDPOINT_URL", s3_endpoint_url)
    resource = platform_resource(Settings.from_env())
    assert type(resource).__name__ == "S3PlatformResource"
    objects: ObjectStore = resource.open().objects
    objects.put("greeting", b"hello")
    stored = s3.get_object(Bucket=s3_bucket, Key="some/prefix/greeting")
    assert stored["Body"].read() == b"hello"


def test_loading_the_code_location_imports_nothing_heavy() -> None:
    """Every run pays the imports of the code location: what only some runs need is imported where it is used."""
    code = "import sys, platform_assets.definitions; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    heavy = {"pandas", "boto3", "dagster_aws", "obstore", "moto", "duckdb", "deepdiff", "sqlglot"}
    assert not heavy & set(done.stdout.split())
