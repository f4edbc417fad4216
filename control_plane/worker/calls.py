"""What a worker asks the control plane over HTTP, typed: tried again where that is safe, refusals raised.

Everything here may be sent twice: a claim whose answer got lost comes back when its lease runs out, and a report that
was taken is taken again.
"""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

import httpx

from penstock.errors import PenstockError
from penstock.identity.trace import read_trace_parent

AGAIN = frozenset({429, 502, 503, 504})
"""Statuses that say to come back."""
LONGEST_WAIT_S = 30.0
_BAD = 400


class Refused(PenstockError):
    """The control plane refuses a request; the message is its own."""

    code = "refused"

    def __init__(self, message: str, *, status: int, problem: str) -> None:
        super().__init__(message)
        self.status = status
        self.problem = problem
        """The ``code`` of the problem document."""


class NoAnswer(PenstockError):
    """The control plane did not answer, however often it was asked."""

    code = "no_answer"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """When it said to come back; None where it did not."""


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """A task that this worker was given."""

    task_id: str
    workflow_id: str
    step: str
    source_id: str
    tenant_id: str
    attempt: int
    fencing_token: int
    lease_expires_at: datetime
    trace_parent: str | None = None
    """W3C trace context that the work is to go on below; None where it belongs to no trace."""
    document: Mapping[str, Any]
    """All of it, as the control plane sent it: what a command gets on its standard input."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Assignment:
        """Read one as it was sent."""
        return cls(
            task_id=document["task_id"],
            workflow_id=document["workflow_id"],
            step=document["step"],
            source_id=document["source_id"],
            tenant_id=document["tenant_id"],
            attempt=document["attempt"],
            fencing_token=document["fencing_token"],
            lease_expires_at=datetime.fromisoformat(document["lease_expires_at"]),
            # An older control plane sends none.
            trace_parent=read_trace_parent(document.get("trace_parent")),
            document=document,
        )


@dataclass(frozen=True, kw_only=True)
class Registered:
    """How the control plane wants to hear of a worker."""

    heartbeat_s: float
    """Seconds between two heartbeats."""
    renew_s: float
    """Seconds between two renewals of a task."""


@dataclass(kw_only=True)
class Calls:
    """A connection to one control plane on behalf of one worker. Threads may share it."""

    url: str
    token: str = field(repr=False)
    worker_id: str
    tries: int = 5
    timeout_s: float = 30.0
    verify: bool | str = True
    """Whether to trust the server's certificate by the system's, or a file of certificates."""
    sleep: Callable[[float], None] = time.sleep
    jitter: Callable[[], float] = random.random

    def __post_init__(self) -> None:
        # To speak plain HTTP no certificates are loaded, which takes longer than many requests.
        plain = self.url.startswith("http:")
        verify = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else self.verify
        self._http = httpx.Client(
            base_url=self.url.rstrip("/"),
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=self.timeout_s,
            verify=verify,
            follow_redirects=False,
        )
        self._me = f"/workers/{quote(self.worker_id, safe='')}"

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def register(
        self, capabilities: Sequence[str], capacity: int, details: Mapping[str, Any]
    ) -> Registered:
        """Register this worker; ``Refused`` with ``changed_meanwhile`` where another has its id."""
        body = {
            "worker_id": self.worker_id,
            "capabilities": list(capabilities),
            "capacity": capacity,
            "details": dict(details),
        }
        # Once: the answer to one that was taken twice would be that the id is taken.
        answer = self._call("POST", "/workers", body, tries=1).json()
        return Registered(heartbeat_s=answer["heartbeat_s"], renew_s=answer["renew_s"])

    def heartbeat(self) -> str:
        """Say that this worker is there; return its status."""
        return str(self._call("PUT", f"{self._me}/heartbeat", {}).json()["status"])

    def drain(self) -> None:
        """Be given nothing more."""
        self._call("PUT", f"{self._me}/drain", {})

    def leave(self) -> None:
        """Be gone."""
        self._call("DELETE", self._me, None)

    def claim(self, most: int, wait_s: float, *, ahead: int = 0) -> list[Assignment]:
        """Return tasks, at most so many, as soon as there are any; none after ``wait_s``.

        ``ahead`` is how many more than its capacity this worker may have.
        """
        timeout = httpx.Timeout(self.timeout_s, read=self.timeout_s + wait_s)
        body = {"most": most, "wait_s": wait_s, "ahead": ahead}
        answer = self._call("POST", f"{self._me}/claims", body, timeout=timeout, tries=1)
        return [Assignment.of(each) for each in answer.json()["items"]]

    def renew(self, task: Assignment) -> bool:
        """Keep a task; return True if it is to be ended: its workflow was cancelled."""
        answer = self._call("PUT", f"/tasks/{task.task_id}/renew", self._mine(task))
        return bool(answer.json()["stop"])

    def complete(self, task: Assignment, batch_id: str | None, result: Mapping[str, Any]) -> None:
        """Report a task as done."""
        body = {**self._mine(task), "batch_id": batch_id, "result": dict(result)}
        self._call("POST", f"/tasks/{task.task_id}/complete", body)

    def fail(self, task: Assignment, code: str, message: str, *, retryable: bool) -> None:
        """Report a task as failed."""
        error = {"code": code[:255], "message": message[-1000:], "retryable": retryable}
        self._call("POST", f"/tasks/{task.task_id}/fail", {**self._mine(task), **error})

    def wait(self, tried: int, response: httpx.Response | None = None) -> None:
        """Wait before the next try: as long as the server says, or about twice as long as before."""
        self.sleep(self.wait_s(tried, response))

    def wait_s(self, tried: int, response: httpx.Response | None = None) -> float:
        """Return how long to wait before the next try, with jitter."""
        told = "" if response is None else response.headers.get("Retry-After", "")
        if told.isdecimal():
            return min(float(told), LONGEST_WAIT_S) + self.jitter() / 10
        return min(0.1 * 2.0 ** min(tried, 10), LONGEST_WAIT_S) * (0.5 + self.jitter() / 2)

    def _mine(self, task: Assignment) -> dict[str, Any]:
        return {"worker_id": self.worker_id, "fencing_token": task.fencing_token}

    def _call(
        self,
        method: str,
        path: str,
        body: Any,
        *,
        tries: int | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        most = tries or self.tries
        waiting = httpx.USE_CLIENT_DEFAULT if timeout is None else timeout
        for tried in range(most):
            last = tried == most - 1
            try:
                response = self._http.request(method, path, json=body, timeout=waiting)
            except httpx.TransportError as error:
                if last:
                    raise NoAnswer(
                        f"{self.url} gave no answer to {method} {path}: {error}"
                    ) from error
                self.wait(tried)
                continue
            if response.status_code in AGAIN and not last:
                self.wait(tried, response)
                continue
            if response.status_code >= _BAD:
                raise _refusal(response)
            return response
        raise AssertionError("the last try has answered or raised")


def _refusal(response: httpx.Response) -> PenstockError:
    try:
        problem = response.json()
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, KeyError, TypeError):
        code, detail = "unknown", response.text[:200]
    if response.status_code in AGAIN:
        wait = response.headers.get("Retry-After", "")
        return NoAnswer(
            f"the control plane is not there for this now ({code}): {detail}",
            retry_after_s=float(wait) if wait.isdecimal() else None,
        )
    return Refused(detail, status=response.status_code, problem=code)
