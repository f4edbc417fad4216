"""A declared source of a few people, and Dagster instances over a fresh data folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from penstock.batch.rows import Entity
from penstock.batch.source import Extract, SourceDefinition, source


@pytest.fixture
def people() -> list[str]:
    """What the source holds; a test may change it."""
    return ["ada", "grace"]


@pytest.fixture
def declared(people: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[SourceDefinition, ...]:
    """The only declared source, with an hourly cadence and an SLA of two hours."""

    @source("crm", cadence_s=3600, sla_s=7200)
    def crm(extract: Extract) -> Iterator[Entity]:
        """People."""
        with extract.scope("person"):
            for name in people:
                yield Entity(entity_type="person", entity_key=f"crm/{name}")

    for module in ("platform_assets.sources", "jobs.collect", "sensors.s3_batches"):
        monkeypatch.setattr(f"{module}.declared_sources", lambda: (crm,))
    return (crm,)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh data folder, and a sensor that looks once a tick."""
    for name in ("DAGSTER_HOME", "PENSTOCK_DATABASE_URL", "PENSTOCK_OBJECTS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("sensors.s3_batches.WATCH_S", 0.0)
    return tmp_path / "home"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance that is gone after the test."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral
