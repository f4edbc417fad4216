"""The page ``docs/reference/publish_states.md``, as it follows from :mod:`penstock.publish.state`."""

from __future__ import annotations

from collections.abc import Iterator

from penstock.publish.state import (
    IN_HAND,
    SETTLED,
    TRANSITIONS,
    WAITING,
    FailureDetails,
    Move,
    PublishMetrics,
    PublishState,
    PublishStatus,
)

_STATUSES = {
    PublishStatus.PENDING: "It is in the queue.",
    PublishStatus.PLANNING: "A worker has claimed it and works out what has to change.",
    PublishStatus.PLAN_COMPLETE: "The plan is stored; its digest says what will run.",
    PublishStatus.EXECUTING: "Operations are being applied.",
    PublishStatus.COMPLETE: "Everything that could be applied is, and the snapshot has advanced.",
    PublishStatus.FAILED: "It failed for good, or its retries are exhausted; a person decides.",
    PublishStatus.RETRYING: "It failed for now and is due again at `retry_due_at`.",
}
_MOVES = {
    Move.CLAIM: "A worker took the batch from the queue.",
    Move.PLANNED: "The plan is stored and its digest recorded.",
    Move.START: "The first operation is about to be applied.",
    Move.SUCCEED: "All that could be applied is applied, and the snapshot has advanced.",
    Move.POSTPONE: "It failed for now and is due again later.",
    Move.FAIL: "It failed for good, or its retries are exhausted.",
    Move.REQUEUE: "A person asked for it again, or its worker gave it back or died.",
    Move.WITHDRAW: "A release or a repair became void: the batch stands as it stood.",
}


def publish_states_page() -> str:
    """Return the whole page as Markdown."""
    return "\n".join([*_head(), *_diagram(), *_statuses(), *_moves(), *_fields()]) + "\n"


def _head() -> Iterator[str]:
    yield "# Publish states"
    yield ""
    yield "<!-- Generated from penstock/publish/state.py by penstock/publish/reference.py. -->"
    yield ""
    yield "A publish state follows one batch to one target. Every move between statuses goes through"
    yield "one total function, `next_status(status, move)`; any move that is not in the table below"
    yield "raises `IllegalMove`, which names those that are."
    yield ""


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield f"    [*] --> {PublishStatus.PENDING}"
    for status, moves in TRANSITIONS.items():
        for move, after in moves.items():
            yield f"    {status} --> {after}: {move}"
    yield "```"
    yield ""


def _statuses() -> Iterator[str]:
    yield "## Statuses"
    yield ""
    yield "| status | what it means | where the batch is | moves |"
    yield "|---|---|---|---|"
    for status in PublishStatus:
        moves = "; ".join(f"{move} → {after}" for move, after in TRANSITIONS[status].items())
        yield f"| `{status}` | {_STATUSES[status]} | {_where(status)} | {moves} |"
    yield ""


def _where(status: PublishStatus) -> str:
    if status in WAITING:
        return "in the queue"
    if status in IN_HAND:
        return "in a worker's hand, under a lease"
    assert status in SETTLED
    return "settled, until an operator requeues it"


def _moves() -> Iterator[str]:
    yield "## Moves"
    yield ""
    yield "| move | what happens | from |"
    yield "|---|---|---|"
    for move in Move:
        sources = ", ".join(f"`{s}`" for s in PublishStatus if move in TRANSITIONS[s])
        yield f"| `{move}` | {_MOVES[move]} | {sources} |"
    yield ""


def _fields() -> Iterator[str]:
    for title, model in (
        ("Fields of `PublishState`", PublishState),
        ("`metrics`", PublishMetrics),
        ("`failure_details`", FailureDetails),
    ):
        yield f"## {title}"
        yield ""
        yield "| field | type | required |"
        yield "|---|---|---|"
        schema = model.model_json_schema(mode="serialization")
        for name, field in model.model_fields.items():
            required = "yes" if field.is_required() else "no"
            yield f"| `{name}` | {_type_of(schema['properties'][name])} | {required} |"
        yield ""


def _type_of(schema: dict[str, object]) -> str:
    options = schema.get("anyOf")
    if isinstance(options, list):
        return " or ".join(_type_of(option) for option in options)
    reference = schema.get("$ref")
    if isinstance(reference, str):
        return f"`{reference.rpartition('/')[2]}`"
    return str(schema.get("format", schema.get("type", "any")))
