"""Trying the control plane's API with schemathesis, by ``make fuzz``.

``python -m tests.integration.control.schemathesis_runs [--max-examples N] [--seed N]`` publishes a small home that has
some of everything, serves it on SQLite, and then one on PostgreSQL, and tries every operation in all phases, at the
bounds of every parameter too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from control_plane.service.opening import open_services
from resources.settings import Settings
from tests.fixtures.control_server import UNLIMITED, ControlServer, running_control
from tests.fixtures.postgres import _database, running_postgres
from tests.integration.control.schemathesis_world import Known, filled
from tests.integration.published_home import publish_home

HOOKS = "tests.integration.control.schemathesis_hooks"
KNOWN = "PENSTOCK_FUZZ_KNOWN"
ROOT = Path(__file__).parents[3]
SETTINGS = """
[checks]
# What a rule refuses is well-formed: an unknown id, a state that does not allow it, a patch that cannot be applied.
positive_data_acceptance.expected-statuses = ["2xx", 303, 304, 403, 404, 409, 412, 422, 424, 428]

[phases.stateful]
# Each is one walk along links: with few of them hardly any is followed.
generation.max-examples = 25
"""


def tried(
    control: ControlServer, known: Known, folder: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Have schemathesis try a served API with all of its checks; 0 is that nothing was found."""
    ids = folder / "known.json"
    ids.write_text(json.dumps(known.as_json()))
    settings = folder / "schemathesis.toml"
    settings.write_text(SETTINGS)
    return subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)),
            *("run", f"{control.url}/openapi.json"),
            *("--header", f"Authorization: Bearer {control.token('admin')}"),
            # A stream of events is listened to until nothing comes for so many seconds.
            *("--request-timeout", "3"),
            *("--checks", "all", "--workers", "1", "--continue-on-failure"),
            *("--suppress-health-check", "all", *options),
        ],
        cwd=folder,
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT), KNOWN: str(ids)},
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def small_world(folder: Path, url: str | None = None) -> Iterator[tuple[ControlServer, Known]]:
    """Serve a published home with some of everything, on a database or on SQLite in its folder."""
    home = publish_home(folder, url).home
    settings = Settings.model_validate({"home": home, "database_url": url})
    services = replace(open_services(settings), limits=UNLIMITED)
    with running_control(services) as control:
        yield control, filled(control)


def main(*options: str) -> int:
    """Try everything on each database, and say what was found."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        found = _tried_at(None, folder / "sqlite", options)
        with running_postgres(folder / "data") as host, _database(host) as url:
            found |= _tried_at(url, folder / "postgresql", options)
    return found


def _tried_at(url: str | None, folder: Path, options: tuple[str, ...]) -> int:
    folder.mkdir()
    with small_world(folder, url) as (control, known):
        ran = tried(control, known, folder, *options)
    sys.stdout.write(f"{folder.name}\n{ran.stdout}{ran.stderr}")
    sys.stdout.flush()
    return ran.returncode


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
