"""Finding Dagster's database from dagster.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from penstock.errors import PenstockError
from resources.sources.dagster_instance import dagster_database_url


def configured(folder: Path, text: str, **environ: str) -> str:
    (folder / "dagster.yaml").write_text(text)
    return dagster_database_url(folder, environ)


def test_the_default_is_the_file_that_dagster_makes(tmp_path: Path) -> None:
    """Without a dagster.yaml, or without storage in it, runs are in SQLite below the instance's folder."""
    expected = f"sqlite:///{tmp_path}/history/runs.db"
    assert dagster_database_url(tmp_path, {}) == expected
    assert configured(tmp_path, "telemetry: {enabled: false}") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("storage: {sqlite: {base_dir: /data}}", "sqlite:////data/history/runs.db"),
        ("run_storage: {module: m, class: c, config: {base_dir: /d}}", "sqlite:////d/runs.db"),
        ("storage: {postgres: {postgres_url: 'postgresql://u@h/d'}}", "postgresql://u@h/d"),
        (
            "storage: {postgres: {postgres_db: {username: u, password: {env: PW}, hostname: h,"
            " db_name: d, port: 5433}}}",
            "postgresql+psycopg://u:s%40fe@h:5433/d",
        ),
        (
            "storage: {custom: {module: m, class: c, config: {postgres_url: {env: PW}}}}",
            "s@fe",
        ),
    ],
)
def test_each_form_of_storage_is_understood(tmp_path: Path, text: str, expected: str) -> None:
    """SQLite's folder and PostgreSQL's URL or parts are read, with variables put in."""
    assert configured(tmp_path, text, PW="s@fe") == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("storage: {mysql: {mysql_url: x}}", "neither sqlite nor postgres"),
        ("storage: {postgres: {postgres_url: {env: UNSET}}}", "the variable UNSET"),
        ("storage: [", "cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, message: str) -> None:
    """Another storage, an unset variable and broken YAML each say what is wrong."""
    with pytest.raises(PenstockError, match=message):
        configured(tmp_path, text)


def test_it_is_where_dagster_itself_keeps_runs(tmp_path: Path) -> None:
    """The default is checked against an instance that Dagster makes."""
    from dagster import DagsterInstance

    with DagsterInstance.local_temp(str(tmp_path)):
        pass
    url = dagster_database_url(tmp_path, {})
    assert Path(url.removeprefix("sqlite:///")).is_file()
