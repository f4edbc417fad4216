"""The page ``docs/reference/events.md``, as it follows from :mod:`penstock.registry.events`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from penstock.registry.events import EventAction, RecordedEvent, StreamId, StreamKind
from penstock.registry.relationship_types import RelationshipType
from penstock.registry.schemas import Schema
from penstock.registry.upcasting import CURRENT, Upcasters

_A = EventAction
_CHANGES = (_A.CREATE, _A.UPDATE, _A.DELETE, _A.RESTORE)
ACTIONS: Mapping[StreamKind, tuple[EventAction, ...]] = {
    StreamKind.ENTITY: (
        *_CHANGES,
        *(_A.DEPRECATE, _A.REINSTATE, _A.PROPOSE, _A.ATTEST, _A.REJECT),
    ),
    StreamKind.RELATIONSHIP: (*_CHANGES, _A.DEPRECATE, _A.REINSTATE),
    StreamKind.SCHEMA: (
        *(_A.CREATE, _A.EDIT, _A.VALIDATE, _A.ACTIVATE, _A.DEACTIVATE, _A.CONFIGURE),
        *(_A.MARK_FOR_DELETION, _A.RESTORE, _A.DELETE),
    ),
    StreamKind.RELATIONSHIP_TYPE: (_A.CREATE, _A.UPDATE, _A.DELETE),
}
"""What can happen to a stream of each kind."""
_MEANING = {
    _A.CREATE: "It is there for the first time, or again after a delete.",
    _A.UPDATE: "It has another state. A review that it had is void.",
    _A.DELETE: "It is gone; `state` is null. The stream's versions go on if it comes back.",
    _A.RESTORE: "It is there again, as it was at some moment.",
    _A.DEPRECATE: "It is not to be used any more.",
    _A.REINSTATE: "It is in use again.",
    _A.PROPOSE: "It is put forward for attestation.",
    _A.ATTEST: "Somebody vouches for it as it is.",
    _A.REJECT: "Somebody refuses to.",
    _A.EDIT: "Its draft has changed.",
    _A.VALIDATE: "Its draft was checked: `status` says valid or invalid, `state.problems` why.",
    _A.ACTIVATE: "A version of it is what entities are validated by.",
    _A.DEACTIVATE: "Nothing is validated by it any more, and its entities take no writes.",
    _A.CONFIGURE: "Its compatibility mode has changed.",
    _A.MARK_FOR_DELETION: "It is no longer to be seen, and may be restored.",
}
_FIELDS = {
    "cursor": "Its place in the order of commits: `transaction` and `position`. Nothing ever comes in before it.",
    "stream": "What it is about: see below.",
    "action": "What happened.",
    "state": "The whole state after it; null once gone.",
    "data": "What else there is to say: see below.",
    "operation_id": "16 bytes, unique over the log: the receipt of a published operation or a command. The last "
    "event's is the entity's ETag.",
    "schema_version": "The version of the schema that the state was validated against.",
    "actor": "Who; `batch:<batch id>` for a published operation.",
    "event_version": "The version of the form of `state` and `data`; older forms are brought up to date as they are "
    "read.",
    "recorded_at": "When, by the clock of whoever wrote it.",
    "version": "Which event of its stream it is, from 1; 0 where it was read with the log.",
    "status": "Of the row after it: `active`, `deprecated`, or a schema's status; null where it stays as it was.",
    "review": "Of the row after it: `proposed`, `attested`, `rejected` or null.",
    "batch_id": "The batch that a published operation is of.",
    "before_digest": "Of the state before it; null where there was none.",
    "after_digest": "Of the state after it; null where there is none.",
}
_STREAM = {
    "tenant_id": "Whose it is.",
    "source_id": "The source that it was published from, or `api`.",
    "kind": "`entity`, `relationship`, `schema` or `relationship_type`.",
    "type_name": "The entity's or relationship's type; a schema's or relationship type's id.",
    "key": "The entity's key; where a relationship begins; a schema's or relationship type's id.",
    "to_key": "Where a relationship ends.",
}
_DATA = {
    "reason": "Why, as whoever did it said.",
    "command": "The fingerprint of the command that an idempotency key stands for.",
    "reviewed_by": "Who brought the review about.",
    "reviewed_at": "When that was.",
    "with_stream": "The entity that a relationship was deleted along with.",
    "unchanged": "True where a published operation found its effect there already: nothing changed.",
}


def events_page(upcasters: Upcasters = CURRENT) -> str:
    """Return the whole page as Markdown."""
    parts = (_head(), _envelope(), _kinds(upcasters), _states(), _data())
    return "\n".join(line for part in parts for line in part) + "\n"


def _head() -> Iterator[str]:
    yield "# Events of the registry"
    yield ""
    yield "<!-- Generated from penstock/registry/events.py by penstock/registry/reference.py. -->"
    yield ""
    yield "Every change of a schema, an entity, a relationship or its type is one event in one log, whether it was"
    yield "published from a batch or came through the API. Events are never changed. Each carries the whole state"
    yield "after it, so what was there at any moment is one event, and nothing has to be replayed."
    yield ""
    yield "Readers see events in the order of their transactions' commits and never skip one, whatever commits late."
    yield "`penstock registry verify` finds what was changed in the log behind the registry's back."
    yield ""


def _envelope() -> Iterator[str]:
    yield "## Fields"
    yield ""
    yield from _table(("field", "what it says"), _named(RecordedEvent, _FIELDS))
    yield "## `stream`"
    yield ""
    yield from _table(("field", "what it says"), _named(StreamId, _STREAM))


def _named(of: type, meanings: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    names = [field.name for field in fields(of)]
    assert sorted(names) == sorted(meanings), set(names) ^ set(meanings)
    yield from ((f"`{name}`", meanings[name]) for name in names)


def _kinds(upcasters: Upcasters) -> Iterator[str]:
    for kind in StreamKind:
        yield f"## Events of kind `{kind}`"
        yield ""
        rows = (
            (f"`{action}`", str(upcasters.newest(kind, action)), _MEANING[action])
            for action in ACTIONS[kind]
        )
        yield from _table(("action", "event_version", "what happened"), rows)


def _states() -> Iterator[str]:
    yield "## `state`"
    yield ""
    yield "Of an entity or a relationship: its attributes, in the [canonical encoding](canonical_encoding.md)."
    yield ""
    for kind, of in ((StreamKind.SCHEMA, Schema), (StreamKind.RELATIONSHIP_TYPE, RelationshipType)):
        names = ", ".join(f"`{field.name}`" for field in fields(of))
        yield f"Of a {str(kind).replace('_', ' ')}: {names}."
        yield ""


def _data() -> Iterator[str]:
    yield "## `data`"
    yield ""
    yield "Each of these where it applies:"
    yield ""
    yield from _table(("name", "what it says"), ((f"`{n}`", said) for n, said in _DATA.items()))


def _table(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
