"""What schemathesis is told of the control plane beside its description: formats, and to wait for tasks briefly."""

from typing import Any

import schemathesis

from tests.integration.registry import schemathesis_formats

__all__ = ["schemathesis_formats"]
LONGEST_WAIT_S = 0.05


@schemathesis.hook
def before_call(_context: Any, case: Any, _kwargs: dict[str, Any]) -> None:
    """Have a worker that asks rightly wait a moment only, in place of up to half a minute."""
    body = case.body
    if isinstance(body, dict) and "wait_s" in body:
        wait_s = body["wait_s"]
        if type(wait_s) in {int, float} and LONGEST_WAIT_S < wait_s <= 30:
            case.body = {**body, "wait_s": LONGEST_WAIT_S}
