"""Trying the control plane's API with schemathesis, by ``make fuzz``.

``python -m tests.integration.control.schemathesis_runs [--max-examples N] [--seed N]`` publishes a small home, serves
it on SQLite and tries every operation in all phases, at the bounds of every parameter too.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from control_plane.service.opening import open_services
from resources.settings import Settings
from tests.fixtures.control_server import UNLIMITED, ControlServer, running_control
from tests.integration.published_home import publish_home

HOOKS = "tests.integration.control.schemathesis_hooks"
ROOT = Path(__file__).parents[3]
SETTINGS = """
[checks]
# What a rule refuses is well-formed: an unknown id, a state that does not allow it, a patch that cannot be applied.
positive_data_acceptance.expected-statuses = ["2xx", 303, 304, 403, 404, 409, 412, 422, 424, 428]

[phases.stateful]
# Each is one walk along links: with few of them hardly any is followed.
generation.max-examples = 25
"""


def tried(control: ControlServer, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Have schemathesis try a served API with all of its checks; 0 is that nothing was found."""
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
        env={**os.environ, "SCHEMATHESIS_HOOKS": HOOKS, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def main(*options: str) -> int:
    """Try everything, and say what was found."""
    with tempfile.TemporaryDirectory() as folder:
        home = publish_home(Path(folder)).home
        services = replace(open_services(Settings(home=home)), limits=UNLIMITED)
        with running_control(services) as control:
            ran = tried(control, Path(folder), *options)
    sys.stdout.write(ran.stdout + ran.stderr)
    return ran.returncode


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
