"""Trying the API with schemathesis: with few examples among the tests, with many by ``make fuzz``.

``python -m tests.integration.registry.schemathesis_runs [--max-examples N] [--seed N]`` serves a fresh registry on
SQLite, and then one on PostgreSQL, and tries every operation in all phases, at the bounds of every parameter too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from control_plane.registry.addresses import API
from resources.control_db.schema import upgrade
from tests.fixtures.clock import FixedClock
from tests.fixtures.postgres import _database, running_postgres
from tests.fixtures.registry_server import Registry, backend_at, running_registry

HOOKS = "tests.integration.registry.schemathesis_formats"
ROOT = Path(__file__).parents[3]
SETTINGS = """
[checks]
# What a rule of the registry refuses is well-formed: a missing schema, a stale ETag, a reference to nothing.
positive_data_acceptance.expected-statuses = ["2xx", 304, 403, 404, 409, 412, 422, 424, 428]
"""


def tried(registry: Registry, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Have schemathesis try a served API with all of its checks; 0 is that nothing was found."""
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS)
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)),
            *("run", f"{registry.url}{API}/openapi.json"),
            *("--header", f"Authorization: Bearer {registry.token('admin')}"),
            *("--checks", "all", "--workers", "1", "--continue-on-failure"),
            *("--suppress-health-check", "all", *options),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def main(*options: str) -> int:
    """Try everything on each database, and say what was found."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        found = _tried_at(f"sqlite:///{folder / 'control.db'}", folder, options)
        with running_postgres(folder / "data") as host, _database(host) as url:
            found |= _tried_at(url, folder, options)
    return found


def _tried_at(url: str, folder: Path, options: tuple[str, ...]) -> int:
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    upgrade(url)
    with running_registry(backend_at(url, clock), clock) as registry:
        ran = tried(registry, folder, *options)
    sys.stdout.write(f"{url.partition(':')[0]}\n{ran.stdout}{ran.stderr}")
    sys.stdout.flush()
    return ran.returncode


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
