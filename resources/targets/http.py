"""An HTTP endpoint as a target: any service that applies operations once and checks their preconditions.

The chunk goes out as newline-delimited JSON in as many requests as the endpoint's limits ask for. Its protocol is
told in ``docs/reference/http_target.md``. What an answer means for a chunk:

===============================================  ==============================================================
answer                                           is
===============================================  ==============================================================
200, one result for every operation              ``Applied``, with what was rejected or in conflict
200 that does not account for every operation    ``Unknown``: what it did is read back
400, 413, 422                                    ``Rejected``: the chunk is halved until the culprit stands alone
409 with the code ``stale_fence``                ``LeaseLost``
401, 403                                         :class:`EndpointRefuses`: the token is not good enough
408, 409, 425, 429, 500, 502, 503, 504, 507      ``Unavailable``, with its ``Retry-After``
any other                                        :class:`EndpointWrong`: it does not speak the protocol
no connection                                    ``Unavailable``
a timeout, a connection closed half-way          ``Unknown``
===============================================  ==============================================================
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, assert_never

import orjson
import pyarrow as pa
from pydantic import ValidationError

from penstock.batch.rows import Kind
from penstock.errors import LeaseLost, PenstockError
from penstock.identity.ids import SourceId, TargetId, target_id
from penstock.plan.operations import DIGEST
from penstock.ports.target import (
    Applied,
    ApplyContext,
    ApplyOutcome,
    OperationFailure,
    Outcome,
    Rejected,
    TargetDown,
    Unavailable,
    Unknown,
)
from resources.targets.http_calls import Answer, HttpCalls, NoAnswer, NotSent
from resources.targets.http_protocol import (
    OPERATIONS_PATH,
    READ_PATH,
    STALE_FENCE,
    HeldRow,
    OperationResult,
    OperationsAnswer,
    ReadAnswer,
    bodies,
    context_headers,
    operation_lines,
    retry_after_s,
)
from resources.targets.http_settings import HttpEndpoint
from resources.targets.preconditions import unstorable

_OK = 200
_CONFLICT = 409
_REJECTED = {400, 413, 422}
_REFUSED = {401, 403}
_AWAY = {408, _CONFLICT, 425, 429, 500, 502, 503, 504, 507}
_FAILED = {"rejected": Outcome.REJECTED, "conflict": Outcome.CONFLICT}


class EndpointRefuses(PenstockError):
    """An HTTP endpoint does not let Penstock in."""

    code = "endpoint_refuses"


class EndpointWrong(PenstockError):
    """An HTTP endpoint answers what the protocol does not know: no retry mends it."""

    code = "endpoint_wrong"


def open_http(endpoint: HttpEndpoint, name: str) -> HttpTarget:
    """Return the target behind an endpoint; no connection is made before the first call."""
    return HttpTarget(endpoint, target_id(name))


@dataclass
class _Tally:
    """What has become of a chunk's operations so far."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[OperationFailure] = field(default_factory=list)

    def add(self, results: Sequence[OperationResult]) -> None:
        for result in results:
            self.outcomes[result.outcome] += 1
            if (outcome := _FAILED.get(result.outcome)) is not None:
                failure = OperationFailure(
                    operation_id=bytes.fromhex(result.idempotency_key),
                    outcome=outcome,
                    code=result.code[:100] or f"{result.outcome}_by_endpoint",
                    message=result.message[:500],
                )
                self.failures.append(failure)


class HttpTarget:
    """:class:`penstock.ports.target.Target` behind an HTTP endpoint."""

    def __init__(self, endpoint: HttpEndpoint, name: TargetId) -> None:
        self._endpoint = endpoint
        self._name = name
        self._calls = HttpCalls(endpoint)

    def __repr__(self) -> str:
        return f"HttpTarget({self._name!r}, {self._endpoint.url!r})"

    @property
    def target_id(self) -> TargetId:
        """The id under which sources name it."""
        return self._name

    def close(self) -> None:
        """Close the connections; the next call opens them anew."""
        self._calls.close()

    def prepare(self) -> None:
        """Do nothing: an endpoint makes itself ready."""

    def apply(self, operations: pa.Table, context: ApplyContext) -> ApplyOutcome:
        """Apply one chunk, in as many requests as the endpoint's limits ask for.

        A request that fails leaves those before it applied; sent again they are ``already_applied``.
        """
        if (refused := unstorable(operations)) is not None:
            return refused
        tally = _Tally()
        lines = operation_lines(operations)
        most_bytes, most_lines = self._endpoint.max_body_bytes, self._endpoint.max_operations
        for body in bodies(lines, most_bytes=most_bytes, most_lines=most_lines):
            if len(body) == 1 and len(body[0]) > most_bytes:
                tally.add([_too_large(body[0], most_bytes)])
                continue
            results = self._send(body, context)
            if not isinstance(results, list):
                return results
            tally.add(results)
        return Applied(
            applied=tally.outcomes["applied"],
            already_applied=tally.outcomes["already_applied"],
            failures=tuple(tally.failures),
        )

    def _send(
        self, lines: list[bytes], context: ApplyContext
    ) -> list[OperationResult] | Rejected | Unavailable | Unknown:
        answer = self._calls.post(
            OPERATIONS_PATH, b"".join(lines), "application/x-ndjson", context_headers(context)
        )
        match answer:
            case NotSent():
                return Unavailable(message=answer.message)
            case NoAnswer():
                return Unknown(message=answer.message)
            case Answer():
                if answer.status != _OK:
                    return self._failure(answer, context)
                wanted = [orjson.loads(line)["idempotency_key"] for line in lines]
                return _results(answer.body, wanted) or Unknown(
                    message=f"{self._endpoint.url} did not say what became of each operation"
                )
            case _:
                assert_never(answer)

    def _failure(self, answer: Answer, context: ApplyContext) -> Rejected | Unavailable:
        said = answer.refusal()
        if answer.status == _CONFLICT and said.code == STALE_FENCE:
            raise LeaseLost(
                f"fencing token {context.fencing_token} for source {context.source_id!r} on target "
                f"{context.target_id!r} is stale: another worker has claimed the lane since"
            )
        if answer.status in _REJECTED:
            return Rejected(
                code=said.code or f"http_{answer.status}", message=said.message or "it is refused"
            )
        return self._away(answer, context.now)

    def _away(self, answer: Answer, now: datetime | None) -> Unavailable:
        """Return for how long the endpoint is away, or raise what no waiting mends."""
        url, said = self._endpoint.url, answer.refusal().message
        told = f"{url} answered {answer.status}" + (f": {said}" if said else "")
        if answer.status in _REFUSED:
            raise EndpointRefuses(
                f"{told}. Put a token that it accepts into PENSTOCK_HTTP_TARGETS, for target {self._name!r}"
            )
        if answer.status not in _AWAY:
            raise EndpointWrong(
                f"{told}. docs/reference/http_target.md says what it has to answer; is the url of target "
                f"{self._name!r} in PENSTOCK_HTTP_TARGETS the right one?"
            )
        return Unavailable(message=told, retry_after_s=retry_after_s(answer.headers, now))

    # Reading back -------------------------------------------------------------------------------------------

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Return digest and attributes of some entities or relationships, null where absent."""
        names = ["type_name", "key", *(["to_key"] if kind is Kind.RELATIONSHIP else [])]
        wanted = keys.select(names).to_pylist()
        held: list[HeldRow] = []
        for start in range(0, len(wanted), self._endpoint.max_operations):
            held += self._read(source, kind, wanted[start : start + self._endpoint.max_operations])
        digests = [bytes.fromhex(row.digest) if row.digest else None for row in held]
        attributes = pa.array([row.attributes for row in held], pa.string())
        answer = keys.append_column("digest", pa.array(digests, DIGEST))
        return answer.append_column("attributes", attributes)

    def _read(self, source: SourceId, kind: Kind, keys: list[dict[str, Any]]) -> list[HeldRow]:
        body = orjson.dumps({"kind": str(kind), "keys": keys})
        headers = {"Penstock-Source": source, "Penstock-Target": self._name}
        answer = self._calls.post(READ_PATH, body, "application/json", headers)
        if isinstance(answer, NoAnswer) and answer.too_large and len(keys) > 1:
            half = len(keys) // 2
            return self._read(source, kind, keys[:half]) + self._read(source, kind, keys[half:])
        if isinstance(answer, NotSent | NoAnswer):
            raise TargetDown(Unavailable(message=answer.message))
        if answer.status != _OK:
            raise TargetDown(self._away(answer, None))
        return self._rows(answer, len(keys))

    def _rows(self, answer: Answer, wanted: int) -> list[HeldRow]:
        try:
            rows = ReadAnswer.model_validate_json(answer.body).rows
        except ValidationError as error:
            problem = error.errors(include_input=False, include_url=False)[0]
            raise EndpointWrong(
                f"{self._endpoint.url}{READ_PATH} answered what the protocol does not know: {problem['loc']}: "
                f"{problem['msg']}"
            ) from None
        if len(rows) != wanted:
            raise EndpointWrong(
                f"{self._endpoint.url}{READ_PATH} answered {len(rows)} rows for {wanted} keys: it has to answer "
                "one for each, in their order"
            )
        return rows


def _results(body: bytes, wanted: Sequence[str]) -> list[OperationResult] | None:
    """Return the results of an answer, or None if it does not account for each operation exactly once."""
    try:
        results = OperationsAnswer.model_validate_json(body).results
    except ValidationError:
        return None
    named = [result.idempotency_key for result in results]
    return results if sorted(named) == sorted(wanted) else None


def _too_large(line: bytes, most_bytes: int) -> OperationResult:
    return OperationResult(
        idempotency_key=orjson.loads(line)["idempotency_key"],
        outcome="rejected",
        code="operation_too_large",
        message=f"it has {len(line)} bytes, and max_body_bytes of this target is {most_bytes}",
    )
