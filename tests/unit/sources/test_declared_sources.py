"""The one place where sources are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from penstock.errors import PenstockError
from platform_assets.sources import declared_sources, unique
from resources.sources.python_environment import python_environment
from resources.sources.sql_catalog import sql_catalog


def ids() -> list[str]:
    return [each.spec.source_id for each in declared_sources()]


def test_the_platforms_own_databases_and_environment_are_sources(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without any settings there are three sources."""
    monkeypatch.delenv("DEMO_URL", raising=False)
    assert ids() == ["control_catalog", "dagster_catalog", "python_environment"]


def test_ones_own_database_is_a_source_when_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """DEMO_URL adds a catalog, and its URL is in nothing that is shown."""
    monkeypatch.setenv("DEMO_URL", "postgresql://u:hunter2@h/d")
    assert ids()[-1] == "demo_catalog"
    assert "hunter2" not in repr(declared_sources())


def test_two_sources_of_one_id_are_refused() -> None:
    """The error names the id."""
    with pytest.raises(PenstockError, match="'tools' is declared 2 times"):
        unique(python_environment("tools"), python_environment("tools"))


def test_declaring_sources_touches_nothing(tmp_path: Path) -> None:
    """It loads no database library, no Dagster, and leaves no file behind, though settings point nowhere."""
    code = (
        "import sys; from platform_assets.sources import declared_sources; declared_sources();"
        "heavy = {'sqlalchemy', 'sqlglot', 'dagster', 'pandas', 'packaging'} & sys.modules.keys();"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(root), "PENSTOCK_DATABASE_URL": "nonsense"},
    )
    assert not list(tmp_path.iterdir())


def test_settings_are_shown_and_urls_are_not() -> None:
    """What a person may replace for a run is on the definition; a URL, which may hold a password, is not."""
    shop = sql_catalog("shop", url="postgresql://u:hunter2@h/d", name="shop", exclude="tmp_*")
    assert shop.settings == {"name": "shop", "exclude": ("tmp_*",)}
    assert sql_catalog("shop", url_env="SHOP_URL").settings == {"url_env": "SHOP_URL"}
    assert "hunter2" not in repr(shop)
