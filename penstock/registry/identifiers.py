"""Names of streams from what people type: checked, with every error at once."""

from __future__ import annotations

import unicodedata

from penstock.errors import InvalidIdentifier
from penstock.identity import ids
from penstock.identity.ids import SourceId, TenantId
from penstock.registry.events import API_SOURCE, StreamId, StreamKind
from penstock.registry.problems import Problem, ProblemError, ProblemKind, json_type

MAX_ACTOR_CHARACTERS = 255
MAX_IDEMPOTENCY_KEY_CHARACTERS = 255
_FORBIDDEN = {"Cc", "Cs"}
"""Unicode categories: control characters, and surrogates, which no UTF-8 text can carry."""


def entity_stream(
    tenant: TenantId, entity_type: str, key: str, *, source: str = API_SOURCE
) -> StreamId | Problem:
    """Return the name of an entity's stream, or all that is wrong with it."""
    errors = [*_source_errors(source), *_type_errors(entity_type, "entity type")]
    errors += key_errors(key, "key")
    return _checked(errors, tenant, source, StreamKind.ENTITY, entity_type, key, None)


def relationship_stream(
    tenant: TenantId,
    relationship_type: str,
    from_key: str,
    to_key: str,
    *,
    source: str = API_SOURCE,
) -> StreamId | Problem:
    """Return the name of a relationship's stream, or all that is wrong with it."""
    errors = [*_source_errors(source), *_type_errors(relationship_type, "relationship type")]
    errors += [*key_errors(from_key, "from_key"), *key_errors(to_key, "to_key")]
    kind = StreamKind.RELATIONSHIP
    return _checked(errors, tenant, source, kind, relationship_type, from_key, to_key)


def schema_stream(tenant: TenantId, schema_id: str) -> StreamId:
    """Return the name of a schema's stream."""
    return _declared(tenant, StreamKind.SCHEMA, schema_id)


def relationship_type_stream(tenant: TenantId, name: str) -> StreamId:
    """Return the name of a relationship type's stream."""
    return _declared(tenant, StreamKind.RELATIONSHIP_TYPE, name)


def _declared(tenant: TenantId, kind: StreamKind, name: str) -> StreamId:
    return StreamId(tenant_id=tenant, source_id=API_SOURCE, kind=kind, type_name=name, key=name)


def key_errors(key: str, what: str) -> list[ProblemError]:
    """Return what is wrong with a key: empty, too long, or with characters that no key may have."""
    if not key:
        return [_error(what, "required", f"{what} is empty", key)]
    errors = []
    size = len(key.encode("utf-8", "surrogatepass"))
    if size > ids.MAX_KEY_BYTES:
        message = f"{what} takes {size:,} bytes, over the limit of {ids.MAX_KEY_BYTES:,}"
        errors.append(_error(what, "maxLength", message, key))
    bad = next((at for at, c in enumerate(key) if unicodedata.category(c) in _FORBIDDEN), None)
    if bad is not None:
        message = f"{what} holds {key[bad]!a} as its character {bad + 1}: take it out"
        errors.append(_error(what, "pattern", message, key))
    return errors


def text_errors(text: str, what: str, most: int) -> list[ProblemError]:
    """Return what is wrong with a short text that names somebody or something."""
    if not text.strip():
        return [_error(what, "required", f"{what} is empty", text)]
    if len(text) > most:
        return [_error(what, "maxLength", f"{what} has more than {most} characters", text)]
    if any(unicodedata.category(c) in _FORBIDDEN for c in text):
        return [_error(what, "pattern", f"{what} holds a control character", text)]
    return []


def _type_errors(name: str, what: str) -> list[ProblemError]:
    try:
        ids.type_name(name, what=what)
    except InvalidIdentifier as error:
        return [_error("type", "pattern", str(error), name)]
    return []


def _source_errors(source: str) -> list[ProblemError]:
    try:
        ids.source_id(source)
    except InvalidIdentifier as error:
        return [_error("source", "pattern", str(error), source)]
    return []


def _error(where: str, rule: str, message: str, value: object) -> ProblemError:
    return ProblemError(path=f"/{where}", rule=rule, message=message, value_type=json_type(value))


def _checked(
    errors: list[ProblemError],
    tenant: TenantId,
    source: str,
    kind: StreamKind,
    type_name: str,
    key: str,
    to_key: str | None,
) -> StreamId | Problem:
    if errors:
        return Problem(
            kind=ProblemKind.INVALID_REQUEST,
            detail=f"{errors[0].message}" if len(errors) == 1 else f"{len(errors)} names are bad",
            errors=tuple(errors),
        )
    return StreamId(
        tenant_id=tenant,
        source_id=SourceId(source),
        kind=kind,
        type_name=type_name,
        key=key,
        to_key=to_key,
    )


def named(stream: StreamId) -> str:
    """Return how messages name a stream."""
    source = "" if stream.source_id == API_SOURCE else f" of source {stream.source_id}"
    to = "" if stream.to_key is None else f" -> {stream.to_key!r}"
    what = "" if stream.kind is StreamKind.ENTITY else f"{stream.kind.replace('_', ' ')} "
    if stream.kind in {StreamKind.SCHEMA, StreamKind.RELATIONSHIP_TYPE}:
        return f"{what}{stream.key!r}"
    return f"{what}{stream.type_name} {stream.key!r}{to}{source}"


def address(stream: StreamId) -> dict[str, str]:
    """Return a stream as JSON names it."""
    parts = {"kind": str(stream.kind), "source": str(stream.source_id), "type": stream.type_name}
    if stream.to_key is None:
        return {**parts, "key": stream.key}
    return {**parts, "from_key": stream.key, "to_key": stream.to_key}
