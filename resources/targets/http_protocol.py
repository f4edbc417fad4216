"""The words of the HTTP target's protocol: what is sent, what is answered, and where the limits are.

``docs/reference/http_target.md`` tells it to those who write an endpoint; ``docs/reference/http_target.schema.json`` is
:func:`protocol_schema`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import orjson
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from penstock.batch.rows import Kind
from penstock.plan.operations import Action
from penstock.ports.target import ApplyContext

PROTOCOL = "1"
OPERATIONS_PATH = "/operations"
READ_PATH = "/read"
STALE_FENCE = "stale_fence"
LONGEST_RETRY_AFTER_S = 86_400.0
"""What asks for longer is taken to have asked for this."""
_SENT = ["action", "kind", "type_name", "key", "to_key", "attributes"]
_BINARY = ["operation_id", "before_digest", "after_digest"]


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True)


class OperationLine(BaseModel):
    """One line of the request to ``/operations``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    idempotency_key: str = Field(pattern="^[0-9a-f]{32}$")
    """The operation's id: it takes effect once, however often and by whomever it is sent."""
    action: Action
    kind: Kind
    type_name: str
    key: str
    to_key: str | None = None
    """Relationships only: where they end."""
    attributes: str | None = None
    """The whole state after, as canonical JSON text; null for deletes."""
    before_digest: str | None = None
    """What the endpoint is expected to hold; null for nothing."""
    after_digest: str | None = None
    """To be kept beside the attributes; null for deletes."""


class OperationResult(_Said):
    """What became of one operation."""

    idempotency_key: str = Field(pattern="^[0-9a-f]{32}$")
    outcome: Literal["applied", "already_applied", "rejected", "conflict"]
    code: str = ""
    message: str = ""


class OperationsAnswer(_Said):
    """The answer of status 200 to ``/operations``: one result for every line, in any order."""

    results: list[OperationResult]


class ReadKey(BaseModel):
    """One entity, or with ``to_key`` one relationship."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type_name: str
    key: str
    to_key: str | None = None


class ReadRequest(BaseModel):
    """The request to ``/read``."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Kind
    keys: list[ReadKey]


class HeldRow(_Said):
    """What the endpoint holds: both null where there is nothing; attributes null too where it keeps no text."""

    digest: str | None = Field(default=None, pattern="^[0-9a-f]{32}$")
    attributes: str | None = None


class ReadAnswer(_Said):
    """The answer of status 200 to ``/read``: one row per key, in the order of the keys."""

    rows: list[HeldRow]


class Refusal(_Said):
    """The answer of any other status; an endpoint that has nothing to say may leave it out."""

    code: str = ""
    message: str = ""


def protocol_schema() -> dict[str, Any]:
    """Return the JSON Schema of all that goes over the line."""
    models: list[type[BaseModel]] = [
        OperationLine,
        OperationsAnswer,
        ReadRequest,
        ReadAnswer,
        Refusal,
    ]
    _, schema = models_json_schema(
        [(model, "validation") for model in models],
        title="The protocol of Penstock's HTTP target, version 1",
    )
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def context_headers(context: ApplyContext) -> dict[str, str]:
    """Return the headers that say on whose behalf operations are sent."""
    return {
        "Penstock-Batch": context.batch_id,
        "Penstock-Source": context.source_id,
        "Penstock-Target": context.target_id,
        "Penstock-Tenant": context.tenant_id,
        "Penstock-Plan-Digest": context.plan_digest,
        "Penstock-Fencing-Token": str(context.fencing_token),
    }


def operation_lines(operations: pa.Table) -> Iterator[bytes]:
    """Yield each operation as one line of JSON, its newline included."""
    for row in operations.select(_SENT + _BINARY).to_pylist():
        ids = {name: value.hex() if (value := row.pop(name)) else None for name in _BINARY}
        yield orjson.dumps({"idempotency_key": ids.pop("operation_id"), **row, **ids}) + b"\n"


def bodies(lines: Iterable[bytes], *, most_bytes: int, most_lines: int) -> Iterator[list[bytes]]:
    """Cut lines into bodies that keep both limits; a line that is too long by itself is a body by itself."""
    body: list[bytes] = []
    size_bytes = 0
    for line in lines:
        if body and (size_bytes + len(line) > most_bytes or len(body) == most_lines):
            yield body
            body, size_bytes = [], 0
        body.append(line)
        size_bytes += len(line)
    if body:
        yield body


def retry_after_s(headers: Mapping[str, str], now: datetime | None) -> float | None:
    """Return how long an answer asks to be left alone: ``Retry-After`` in seconds or as a date.

    A date is held against the endpoint's own clock, its ``Date``, or else against ``now``.
    """
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), LONGEST_RETRY_AFTER_S)
    moment, now = _moment(text), _moment(headers.get("date", "")) or now
    if moment is None or now is None:
        return None
    return min(max(0.0, (moment - now).total_seconds()), LONGEST_RETRY_AFTER_S)


def _moment(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
