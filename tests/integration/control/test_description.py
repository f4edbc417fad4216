"""The API keeps to its own OpenAPI description, whatever it is sent: tried by schemathesis with all of its checks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from control_plane.service.app import described_api
from tests.integration.control.schemathesis_runs import small_world, tried

FEW = ("--phases", "examples,fuzzing,stateful", "--seed", "1", "--max-examples", "1")


def test_the_api_is_as_it_is_described(tmp_path: Path) -> None:
    """No server error, no answer that is not described, nothing wrong taken, nothing right refused, auth holds."""
    with small_world(tmp_path) as (control, known):
        ran = tried(control, known, tmp_path, *FEW)
    assert ran.returncode == 0, ran.stdout[-20_000:] + ran.stderr[-2_000:]


def test_there_is_some_of_everything(tmp_path: Path) -> None:
    """What a path names is there to be asked for: of each parameter several ids, and each that can be read is found."""
    api = described_api()
    with small_world(tmp_path) as (control, known):
        for path, operations in api["paths"].items():
            names = re.findall(r"{(\w+)}", path)
            if not names or "{scope}" in path:
                continue
            (name,) = names
            assert len(set(known.path[name])) >= (1 if name == "target" else 3), name
            there = known.plans if path.startswith("/holds") else known.path[name]
            for value in set(there) if "get" in operations else ():
                answer = control.request("GET", path.replace(f"{{{name}}}", value), role="admin")
                assert answer.status_code == 200, answer.text
    assert known.plans
    assert known.held


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
