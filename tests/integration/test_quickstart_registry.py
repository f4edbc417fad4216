"""The quick start of the registry: its code does what it says, from top to bottom, against a real server."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import uvicorn

from control_plane.registry.opening import application
from penstock.identity.ids import TenantId
from penstock.registry.access import Role
from penstock.use_cases.access_tokens import create_token
from penstock.use_cases.acts import By
from resources.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "quickstart" / "registry.md"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ADDRESS = "http://127.0.0.1:8484"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve a new registry, with the page's token in the environment; yields its address."""
    app = application(Settings(home=tmp_path))
    backend = app.state.backend
    made = create_token(
        backend.tokens,
        tenant=TenantId("default"),
        role=Role.SCHEMA_ADMIN,
        name="quickstart",
        lifetime=timedelta(days=1),
        by=By(actor="test", reason="the quick start"),
        now=backend.platform.clock.now(),
    )
    monkeypatch.setenv("PENSTOCK_TOKEN", made.text)
    served = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    running = threading.Thread(target=served.run)
    running.start()
    while not served.started and running.is_alive():
        running.join(0.05)
    try:
        port = served.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        served.should_exit = True
        running.join(20)


def test_the_page_works_from_top_to_bottom(server: str) -> None:
    """Every block runs in the order of the page, and its assertions hold."""
    code = "\n".join(BLOCK.findall(PAGE.read_text(encoding="utf-8")))
    assert ADDRESS in code
    exec(compile(code.replace(ADDRESS, server), str(PAGE), "exec"), {})
