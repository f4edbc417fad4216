"""What a schema refers to: other places of itself, and other schemas of the registry.

A reference is written ``penstock:<schema id>``, with ``@<version>`` for a certain version and ``#/<pointer>`` for a
place inside it. One without a version means the version that is active when the referring schema is activated: it is
pinned there, so that a version of a schema means the same for ever. Nothing else outside a document can be referred
to, and so nothing is ever fetched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote

from penstock.errors import PenstockError
from penstock.registry.dialect import (
    Dialect,
    Tokens,
    dialect_of,
    pointer,
    pointer_tokens,
    subschemas,
)

SCHEME: Final = "penstock:"
_REFERENCE = re.compile(r"penstock:(?P<schema>[a-z][a-z0-9_]{0,126})(@(?P<version>[1-9]\d{0,8}))?")


class BadReference(PenstockError):
    """A reference in a schema has a form that is not taken."""

    code = "bad_reference"


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """Where a ``$ref`` leads."""

    schema_id: str | None
    """None for the document that holds the reference."""
    version: int | None = None
    """None for whichever is active."""
    tokens: Tokens = ()
    """The place inside; empty for the whole."""

    def __str__(self) -> str:
        """Return it as it is written."""
        fragment = f"#{pointer(self.tokens)}" if self.tokens or self.schema_id is None else ""
        if self.schema_id is None:
            return fragment
        return SCHEME + self.schema_id + (f"@{self.version}" if self.version else "") + fragment


@dataclass(frozen=True, kw_only=True, slots=True)
class Referent:
    """A version of a schema, as what refers to it sees it."""

    schema_id: str
    version: int
    document: Mapping[str, Any]
    pins: Mapping[str, int] = field(default_factory=dict)
    """The versions that its own references without one were pinned to, by schema id."""


Resolve = Callable[[str, int | None], Referent | None]
"""Return a version of a schema, or its active one for None; None where there is no such thing, or nothing active."""


def nothing(schema_id: str, version: int | None) -> Referent | None:  # noqa: ARG001
    """Resolve no reference: what a document that stands alone is read with."""
    return None


def parsed(text: str) -> Reference:
    """Return the reference that ``text`` is, or raise :class:`BadReference` saying what is taken."""
    where, _, fragment = text.partition("#")
    fragment = unquote(fragment)
    if fragment and not fragment.startswith("/"):
        raise BadReference(
            f"$ref {_short(text)} names an anchor: refer by JSON pointer, as in '#/$defs/{fragment[:60]}'"
        )
    tokens = pointer_tokens(fragment)
    if not where:
        return Reference(schema_id=None, tokens=tokens)
    match = _REFERENCE.fullmatch(where)
    if match is None:
        raise BadReference(
            f"$ref {_short(text)} leads out of the registry, and nothing is fetched: put what it names under $defs and "
            "refer to '#/$defs/<name>', or define it as a schema and refer to 'penstock:<schema id>'"
        )
    version = match["version"]
    return Reference(
        schema_id=match["schema"], version=int(version) if version else None, tokens=tokens
    )


def references_in(document: Mapping[str, Any]) -> Iterator[tuple[str, Reference]]:
    """Yield each reference to another schema that has a right form, with the pointer of the ``$ref``."""
    dialect = dialect_of(document) or Dialect.DRAFT_2020_12
    for tokens, schema in subschemas(document, dialect):
        text = None if isinstance(schema, bool) else schema.get("$ref")
        if isinstance(text, str) and text.startswith(SCHEME):
            try:
                yield pointer((*tokens, "$ref")), parsed(text)
            except BadReference:
                continue


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:97] + "...")


def pinned(
    document: Mapping[str, Any], resolve: Resolve, *, itself: tuple[str, int]
) -> tuple[dict[str, int], list[str]]:
    """Return the versions that references without one mean now, and what is wrong with references to other schemas.

    ``itself`` is the schema and the version that the document is about to become.
    """
    pins: dict[str, int] = {}
    wrong: dict[str, None] = {}
    for where, reference in references_in(document):
        assert reference.schema_id is not None
        if reference.schema_id == itself[0] and reference.version in {None, itself[1]}:
            continue
        found = resolve(reference.schema_id, reference.version)
        if found is None:
            wrong[_unresolved(where, reference)] = None
        elif not has_place(found.document, reference.tokens):
            wrong[
                f"{where} refers to {reference}, and version {found.version} has no schema there"
            ] = None
        elif reference.version is None:
            pins[reference.schema_id] = found.version
    return dict(sorted(pins.items())), list(wrong)


def has_place(document: Mapping[str, Any], tokens: Tokens) -> bool:
    """Say whether there is a schema at a place of a document."""
    dialect = dialect_of(document) or Dialect.DRAFT_2020_12
    return any(at == tokens for at, _ in subschemas(document, dialect))


def _unresolved(where: str, reference: Reference) -> str:
    if reference.version is None:
        return (
            f"{where} refers to {reference}, which is not defined or has no active version: "
            "activate it first, or together with this one"
        )
    return (
        f"{where} refers to {reference}, and there is no such version: correct the number or the id"
    )


def overlaid(resolve: Resolve, known: Iterable[Referent]) -> Resolve:
    """Return what resolves like ``resolve``, with ``known`` as the active versions of their schemas."""
    new = {each.schema_id: each for each in known}

    def with_known(schema_id: str, version: int | None) -> Referent | None:
        found = new.get(schema_id)
        if found is not None and version in {None, found.version}:
            return found
        return resolve(schema_id, version)

    return with_known


def users_of(schema_id: str, others: Iterable[Referent]) -> list[str]:
    """Return which of ``others`` refer to a schema, as ``<schema id>@<version>``, itself left out.

    ``others`` are the active versions of all schemas, or whatever else has to go on working.
    """
    return sorted(
        f"{other.schema_id}@{other.version}"
        for other in others
        if other.schema_id != schema_id
        and any(found.schema_id == schema_id for _, found in references_in(other.document))
    )
