"""What use cases refuse, as problem documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_plane.web.problem_responses import HttpProblem
from penstock.errors import PenstockError

_STATUSES = {
    "not_found": (404, "There is no such thing"),
    "undeclared_source": (404, "There is no such thing"),
    "illegal_move": (409, "Its state does not allow this"),
    "lane_busy": (409, "It is in hand"),
    "lease_lost": (409, "Another has it by now"),
    "lane_paused": (409, "It is paused"),
    "nothing_to_do": (409, "It is so already"),
    "changed_meanwhile": (409, "It was changed meanwhile"),
    "plan_changed": (409, "It is another plan"),
    "unsigned": (422, "The act needs a reason"),
    "bad_patch": (422, "The patch is refused"),
    "too_many": (429, "More at once than is allowed"),
    "target_unreachable": (503, "The target does not answer"),
    "database_unreachable": (503, "Not now"),
}
"""By the error's code; what is not here cannot be used as it was sent: 422."""
_RETRY_AFTER_S = {429: 60, 503: 10}


def refusal(error: PenstockError) -> HttpProblem:
    """Return the problem that an error of a use case is over HTTP.

    An error that knows which moves are legal names them: its ``legal`` becomes a member of the document.
    """
    status, title = _STATUSES.get(error.code, (422, "It cannot be done as it was sent"))
    wait_s = _RETRY_AFTER_S.get(status)
    return HttpProblem(
        status=status,
        code=error.code,
        title=title,
        detail=str(error),
        more=_more(error),
        headers={} if wait_s is None else {"Retry-After": str(wait_s)},
    )


def _more(error: PenstockError) -> Mapping[str, Any]:
    legal = getattr(error, "legal", None)
    return {} if legal is None else {"legal": [str(each) for each in legal]}
