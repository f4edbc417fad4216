"""The sources that an installation has from the start, on its real databases."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from penstock.batch.collected import Collected, collect
from penstock.batch.source import SourceDefinition
from platform_assets.sources import declared_sources
from resources.sources.errors import SourceUnavailable


def declared(source_id: str) -> SourceDefinition:
    [found] = [each for each in declared_sources() if each.spec.source_id == source_id]
    return found


@pytest.fixture
def installation(control_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An installation with a control database; the URL of that."""
    monkeypatch.setenv("PENSTOCK_DATABASE_URL", control_url)
    monkeypatch.setenv("PENSTOCK_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PENSTOCK_DAGSTER_HOME", raising=False)
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    return control_url


def tables(found: Collected) -> set[str]:
    return {key.rpartition("/")[2] for key in found.keys("table")}


def test_the_control_database_is_catalogued_under_one_name(installation: str) -> None:
    """On either database its root is ``control``, and all of its tables are told with their keys."""
    found = collect(declared("control_catalog"))
    assert found.keys("database") == {"control"}
    assert {"publish_state", "alembic_version"} <= tables(found)
    assert len(found.keys("primary_key")) >= len(tables(found)) - 1
    assert found.dangling() == set()


def test_an_altered_control_table_is_a_change_of_that_table(installation: str) -> None:
    """What the demo does: a column more, an index more, and the rest as it was."""
    before = collect(declared("control_catalog"))
    engine = create_engine(installation)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE alembic_version ADD COLUMN note TEXT"))
        connection.execute(text("CREATE INDEX by_note ON alembic_version (note)"))
    engine.dispose()
    after = collect(declared("control_catalog"))
    changed = {n for n in after.entities if after.entities[n] != before.entities.get(n)}
    assert {key.rpartition("/")[2] for _, key in changed} == {"note", "index:by_note"}
    assert before.entities.keys() <= after.entities.keys()


def test_dagsters_database_is_found_where_dagster_keeps_it(
    installation: str, tmp_path: Path
) -> None:
    """Before there is an instance the source is unavailable; after, its tables of runs are told."""
    with pytest.raises(SourceUnavailable):
        collect(declared("dagster_catalog"))
    (tmp_path / "dagster").mkdir()
    from dagster import DagsterInstance

    with DagsterInstance.local_temp(str(tmp_path / "dagster")):
        pass
    found = collect(declared("dagster_catalog"))
    assert found.keys("database") == {"dagster"}
    assert {"runs", "run_tags"} <= tables(found)
    assert ("dagster/main/run_tags", "dagster/main/runs") in found.edges("references")
