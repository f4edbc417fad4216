"""The API keeps to its own OpenAPI description, whatever it is sent: tried by schemathesis with all of its checks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from control_plane.service.app import described_api
from tests.fixtures.clock import FixedClock
from tests.fixtures.control_server import running_control, services_at
from tests.integration.control.schemathesis_runs import tried

FEW = ("--phases", "examples,fuzzing,stateful", "--seed", "1", "--max-examples", "1")


def test_the_api_is_as_it_is_described(
    new_control_url: Callable[[str], str], clock: FixedClock, tmp_path: Path
) -> None:
    """No server error, no answer that is not described, nothing wrong taken, nothing right refused, auth holds."""
    services = services_at(tmp_path / "home", new_control_url("sqlite"), clock)
    with running_control(services) as control:
        ran = tried(control, tmp_path, *FEW)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]


def test_what_was_made_leads_on() -> None:
    """Whoever makes or lists something is told by links what can be asked of it, with its id."""
    api = described_api()
    operations = {
        each["operationId"]: each for path in api["paths"].values() for each in path.values()
    }
    made: dict[str, Any] = operations["make_workflow"]["responses"]["201"]["links"]
    assert made["pause_one_workflow"]["parameters"] == {
        "workflow_id": "$response.body#/workflow_id"
    }
    listed = operations["list_holds"]["responses"]["200"]["links"]
    assert listed["approve_hold"]["parameters"] == {
        "batch": "$response.body#/items/0/state/batch_id"
    }
    for operation in operations.values():
        for response in operation["responses"].values():
            for link in response.get("links", {}).values():
                assert link["operationId"] in operations
                assert link["parameters"], link
