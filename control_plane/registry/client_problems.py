"""What the client raises: one error for each way in which the registry refuses.

::

    RegistryError
    ├── Refused                  the registry says no; ``problem`` says why
    │   ├── NotAdmitted          401: no token, or none that stands
    │   ├── Forbidden            403: the token's role does not allow it
    │   ├── NotThere             404
    │   ├── InTheWay             409: what is there is in the way
    │   ├── ChangedSince         412, 428: another version is there than was said
    │   ├── NotValid             400, 422: what was sent is wrong, with every error
    │   └── TooBusy              429, 503: later, and not now
    └── NoAnswer                 nobody knows whether it was done
"""

from __future__ import annotations

import httpx
from pydantic import ValidationError

from control_plane.web.documents import ProblemDocument
from penstock.errors import PenstockError


class RegistryError(PenstockError):
    """A call of the registry has not been carried out, or nobody knows."""

    code = "registry_error"


class NoAnswer(RegistryError):
    """There was no answer, however often it was asked for."""

    code = "registry_no_answer"


class Refused(RegistryError):
    """The registry has refused; nothing was done."""

    code = "registry_refused"

    def __init__(self, problem: ProblemDocument) -> None:
        """Say what the registry said."""
        errors = [f"{each.path or '/'} ({each.rule}): {each.message}" for each in problem.errors]
        super().__init__("; ".join([f"{problem.status} {problem.code}: {problem.detail}", *errors]))
        self.problem = problem


class NotAdmitted(Refused):
    """The registry does not know who asks."""


class Forbidden(Refused):
    """The token's role does not allow this."""


class NotThere(Refused):
    """There is no such thing."""


class InTheWay(Refused):
    """What is there does not allow this."""


class ChangedSince(Refused):
    """What is there is not at the version that was said; read it again."""


class NotValid(Refused):
    """What was sent is wrong."""


class TooBusy(Refused):
    """The registry asks for patience, and had none left after several tries."""


_BY_STATUS: dict[int, type[Refused]] = {
    400: NotValid,
    401: NotAdmitted,
    403: Forbidden,
    404: NotThere,
    409: InTheWay,
    412: ChangedSince,
    413: NotValid,
    415: NotValid,
    422: NotValid,
    428: ChangedSince,
    429: TooBusy,
    503: TooBusy,
}


def refusal(response: httpx.Response) -> Refused:
    """Return the error that a response stands for, whoever on the way answered."""
    try:
        problem = ProblemDocument.model_validate_json(response.content)
    except ValidationError:
        problem = ProblemDocument(
            type="about:blank",
            title=response.reason_phrase,
            status=response.status_code,
            detail=f"{response.request.url.host} answered {response.status_code} without saying why",
            code="unexplained",
            instance=response.request.url.path,
            errors=[],
        )
    return _BY_STATUS.get(response.status_code, Refused)(problem)
