"""The instance files that are shipped, each used for real."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest

from penstock.batch.source import SourceDefinition
from platform_assets.checks import published_key
from resources.control_db.schema import upgrade
from resources.dagster_database import create_dagster_schema, dagster_url_beside
from tests.definitions.publishing import CRM, collect_now, publish_now, tick

ROOT = Path(__file__).parents[2]


def instance_of(file: str, folder: Path) -> dg.DagsterInstance:
    folder.mkdir(parents=True)
    shutil.copy(ROOT / file, folder / "dagster.yaml")
    return dg.DagsterInstance.from_config(str(folder))


def publish_one(instance: dg.DagsterInstance) -> None:
    assert collect_now(instance).success
    assert tick(instance).run_requests
    assert publish_now(instance).success
    assert len(instance.get_materialized_partitions(published_key(CRM))) == 1


def test_the_embedded_instance_publishes(
    tmp_path: Path, declared: tuple[SourceDefinition, ...]
) -> None:
    """On dagster.yaml, in SQLite, a batch is collected and published, and a later process sees it."""
    with instance_of("dagster.yaml", tmp_path / "dagster") as instance:
        publish_one(instance)
        settings = instance.get_concurrency_config().run_queue_config
        assert settings is not None
        assert settings.max_concurrent_runs == 6
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as later:
        assert len(later.get_materialized_partitions(published_key(CRM))) == 1


@pytest.mark.postgres
def test_the_postgres_instance_publishes_beside_the_control_database(
    tmp_path: Path,
    declared: tuple[SourceDefinition, ...],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On dagster.postgres.yaml, Dagster and the control database share one database and both migrate it."""
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", postgres_url)
    monkeypatch.setenv("DAGSTER_PG_URL", dagster_url_beside(postgres_url))
    upgrade(postgres_url)
    create_dagster_schema(postgres_url)
    with instance_of("dagster.postgres.yaml", tmp_path / "dagster") as instance:
        publish_one(instance)
    upgrade(postgres_url)
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as later:
        assert len(later.get_materialized_partitions(published_key(CRM))) == 1


def test_the_workspace_validates_without_a_deprecation(tmp_path: Path, home: Path) -> None:
    """``dagster definitions validate`` accepts workspace.yaml on the embedded instance, and warns of nothing."""
    (tmp_path / "dagster").mkdir()
    shutil.copy(ROOT / "dagster.yaml", tmp_path / "dagster")
    environ = os.environ | {"DAGSTER_HOME": str(tmp_path / "dagster"), "PENSTOCK_HOME": str(home)}
    argv = ["-m", "dagster", "definitions", "validate", "-w", str(ROOT / "workspace.yaml")]
    done = subprocess.run(
        [sys.executable, *argv],
        cwd=ROOT,
        env=environ,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "Validation successful for code location penstock" in said
    assert "deprecat" not in said.lower()
    assert not home.exists(), "loading the code location wrote into the data folder"
