"""The quick start of the registry: its code does what it says, from top to bottom, against a real server."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from control_plane.registry.opening import open_backend
from resources.settings import Settings
from tests.fixtures.clock import FixedClock
from tests.fixtures.registry_server import running_registry

PAGE = Path(__file__).parents[2] / "docs" / "quickstart" / "registry.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8484"


@pytest.fixture
def server(tmp_path: Path, clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a new registry, with the page's token in the environment; yields its address."""
    backend = open_backend(Settings(home=tmp_path), clock=clock)
    with running_registry(backend, clock) as served:
        token = served.token("schema_admin", tenant="default", name="quickstart")
        monkeypatch.setenv("PENSTOCK_TOKEN", token)
        yield served.url


def test_the_page_works_from_top_to_bottom(server: str) -> None:
    """Every block runs in the order of the page, and its assertions hold."""
    code = "\n".join(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    assert ADDRESS in code
    exec(compile(code.replace(ADDRESS, server), str(PAGE), "exec"), {})
