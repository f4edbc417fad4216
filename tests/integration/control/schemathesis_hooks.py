"""What schemathesis is told of the control plane beside its description: formats, ids, and to wait for tasks briefly.

Most ids that it makes up are replaced by those of what there is, which ``PENSTOCK_FUZZ_KNOWN`` names a file of; what
an id of the right form has to find is left, now and then, to chance. What has not the right form stays as it is.
"""

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from zlib import crc32

import schemathesis
from schemathesis.core.parameters import ParameterLocation

from tests.integration.registry import schemathesis_formats

__all__ = ["schemathesis_formats"]
KNOWN = "PENSTOCK_FUZZ_KNOWN"
LONGEST_WAIT_S = 0.05
ONE_IN = 5
"""Of so many ids one is left as it was made up."""
FORMS = {
    "source": r"[a-z][a-z0-9_]{0,62}",
    "target": r"[a-z][a-z0-9_]{0,62}",
    "destination_id": r"[a-z][a-z0-9_]{0,62}",
    "batch": r"[a-z][a-z0-9_]{0,62}@\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d[.]\d{6}Z",
    "letter": r"[0-9a-f]{32}",
    "workflow_id": r"[0-9a-f]{32}",
    "task_id": r"[0-9a-f]{32}",
    "incident_id": r"[0-9a-f]{32}",
    "plan_digest": r"[0-9a-f]{32}",
    "token_id": r"[0-9a-f]{16}",
    "worker_id": r"[A-Za-z0-9][A-Za-z0-9_.-]{0,126}",
    "position": r"[1-9][0-9]{0,17}",
}
"""What each has to look like, as the description says; digits are ASCII."""
IN_BODIES = {"source", "target"}


@cache
def _known() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ[KNOWN]).read_text())
    return found


def _is_formed(name: str, value: object) -> bool:
    text = str(value) if type(value) in {str, int} else ""
    return re.fullmatch(FORMS[name], text, re.ASCII) is not None


def _named(parameters: Any) -> Any:
    """Return parameters with ids of what there is in place of most that were made up."""
    if not isinstance(parameters, dict):
        return parameters
    return {name: _there(name, value) for name, value in parameters.items()}


def _there(name: str, value: Any) -> Any:
    ids = _known()["path"].get(name)
    if not ids or not _is_formed(name, value):
        return value
    number = crc32(str(value).encode())
    if not number % ONE_IN:
        return value
    known = ids[number // ONE_IN % len(ids)]
    return int(known) if type(value) is int else known


@schemathesis.hook
def map_path_parameters(_context: Any, path_parameters: Any) -> Any:
    """Have what is made up be there; where a link says what it is, that counts."""
    return _named(path_parameters)


@schemathesis.hook
def map_query(_context: Any, query: Any) -> Any:
    """Have what a list is narrowed to be there, too."""
    return _named(query)


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Have bodies name what goes with their path, and a worker that asks rightly wait a moment only."""
    if case.meta is not None and case.meta.phase.name.value != "stateful":
        # No map saw what coverage and examples bring, nor a batch as it is: what goes into a path is quoted by then.
        path = case.meta.components.get(ParameterLocation.PATH)
        if path is not None and path.mode.is_positive:
            plain = {n: unquote(v) if n == "batch" else v for n, v in case.path_parameters.items()}
            case.path_parameters = _named(plain)
    if isinstance(case.body, dict):
        case.body = _fitting(case.body, case.path_parameters or {})


def _fitting(body: dict[str, Any], path: dict[str, Any]) -> dict[str, Any]:
    fits = dict(_known()["held"].get(path.get("task_id"), {}))
    if path.get("batch") in _known()["plans"]:
        fits["plan_digest"] = _known()["plans"][path["batch"]]
    if path.get("workflow_id") in _known()["tasks"]:
        fits["task_id"] = _known()["tasks"][path["workflow_id"]]
    body = {
        name: _there(name, value) if name in IN_BODIES else _fit(name, value, fits)
        for name, value in body.items()
    }
    wait_s = body.get("wait_s")
    if type(wait_s) in {int, float} and LONGEST_WAIT_S < wait_s <= 30:
        body["wait_s"] = LONGEST_WAIT_S
    return body


def _fit(name: str, value: Any, fits: dict[str, Any]) -> Any:
    """Return what goes with a path in place of a value of the right form; of the others, one is wrong as it is."""
    if name not in fits:
        return value
    right = type(value) is int and value >= 0 if name not in FORMS else _is_formed(name, value)
    return fits[name] if right and crc32(repr(value).encode()) % ONE_IN else value
