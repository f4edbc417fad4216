"""The part of the client that is about schemas and relationship types."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from control_plane.registry.addresses import relationship_type_path, schema_path
from control_plane.registry.client_calls import Calls
from control_plane.registry.documents import DeletedDocument, EventDocument
from control_plane.registry.schema_documents import (
    ProposalDocument,
    RelationshipTypeDocument,
    RelationshipTypePage,
    SchemaDocument,
    SchemaEvents,
    SchemaPage,
    TrialDocument,
    VersionDocument,
    VersionList,
)

M = TypeVar("M", bound=BaseModel)
Json = Mapping[str, Any]


@dataclass(frozen=True)
class Schemas:
    """Schemas of one tenant."""

    calls: Calls

    def define(
        self,
        document: Json,
        *,
        compatibility: str | None = None,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> SchemaDocument:
        """Define a schema, as a draft."""
        body = {"document": document, "compatibility": compatibility, "reason": reason}
        return _schema(self.calls.command("POST", "/schemas", body, key=idempotency_key))

    def edit(
        self, schema_id: str, document: Json, *, etag: str | None = None, reason: str = ""
    ) -> SchemaDocument:
        """Set the draft."""
        body = {"document": document, "reason": reason}
        return _schema(self.calls.command("PUT", schema_path(schema_id), body, etag=etag))

    def act(
        self, act: str, schema_id: str, *, etag: str | None = None, reason: str = ""
    ) -> SchemaDocument:
        """``revise``, ``validate``, ``activate``, ``deactivate``, ``mark-for-deletion`` or ``restore`` a schema."""
        path = f"{schema_path(schema_id)}/{act}"
        return _schema(self.calls.command("POST", path, {"reason": reason}, etag=etag))

    def to_version(
        self,
        act: str,
        schema_id: str,
        version: int | None,
        *,
        etag: str | None = None,
        reason: str = "",
    ) -> SchemaDocument:
        """``point`` a schema to a version, or ``reactivate`` it at one."""
        path = f"{schema_path(schema_id)}/{act}"
        body = {"version": version, "reason": reason}
        return _schema(self.calls.command("POST", path, body, etag=etag))

    def configure(
        self, schema_id: str, compatibility: str, *, etag: str | None = None, reason: str = ""
    ) -> SchemaDocument:
        """Set the compatibility mode."""
        path = f"{schema_path(schema_id)}/compatibility"
        body = {"compatibility": compatibility, "reason": reason}
        return _schema(self.calls.command("PUT", path, body, etag=etag))

    def read(self, schema_id: str) -> SchemaDocument:
        """Return a schema."""
        return _schema(self.calls.read(schema_path(schema_id)))

    def list(self, *, status: str | None = None, page_size: int = 100) -> Iterator[SchemaDocument]:
        """Yield schemas, by id."""
        after = None
        while True:
            answer = self.calls.read("/schemas", status=status, after=after, limit=page_size)
            page = _read(SchemaPage, answer)
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def versions(self, schema_id: str) -> Sequence[VersionDocument]:
        """Return the versions of a schema, oldest first."""
        return _read(VersionList, self.calls.read(f"{schema_path(schema_id)}/versions")).items

    def export(self, schema_id: str, version: int, *, bundled: bool = False) -> Json:
        """Return the JSON Schema of one version; ``bundled`` with all that it refers to inside."""
        path = f"{schema_path(schema_id)}/versions/{version}/document"
        document: Json = self.calls.read(path, bundled=bundled).json()
        return document

    def history(self, schema_id: str) -> Iterator[EventDocument]:
        """Yield what happened to a schema, oldest first."""
        after = 0
        while True:
            answer = self.calls.read(f"{schema_path(schema_id)}/history", after=after)
            page = _read(SchemaEvents, answer)
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def try_out(
        self, schema_id: str, document: Json, *, compatibility: str | None = None
    ) -> TrialDocument:
        """Say whether a document could be the next version, and change nothing."""
        path = f"{schema_path(schema_id)}/compatibility-check"
        body = {"document": document, "compatibility": compatibility}
        return _read(TrialDocument, self.calls.ask(path, body))

    def propose(self, title: str, rows: Sequence[Json]) -> ProposalDocument:
        """Return a schema that rows are valid under."""
        answer = self.calls.ask("/schema-proposals", {"title": title, "rows": list(rows)})
        return _read(ProposalDocument, answer)


@dataclass(frozen=True)
class RelationshipTypes:
    """Relationship types of one tenant."""

    calls: Calls

    def declare(
        self, name: str, declared: Json, *, etag: str | None = None, reason: str = ""
    ) -> RelationshipTypeDocument:
        """Declare a type, or declare it anew."""
        sent = self.calls.command(
            "PUT", relationship_type_path(name), declared, etag=etag, reason=reason
        )
        return _read(RelationshipTypeDocument, sent)

    def read(self, name: str) -> RelationshipTypeDocument:
        """Return a type."""
        return _read(RelationshipTypeDocument, self.calls.read(relationship_type_path(name)))

    def list(self) -> Iterator[RelationshipTypeDocument]:
        """Yield types, by name."""
        after = None
        while True:
            page = _read(RelationshipTypePage, self.calls.read("/relationship-types", after=after))
            yield from page.items
            if page.next is None:
                return
            after = page.next

    def remove(self, name: str, *, etag: str | None = None, reason: str = "") -> DeletedDocument:
        """Take a declaration away."""
        sent = self.calls.command("DELETE", relationship_type_path(name), etag=etag, reason=reason)
        return _read(DeletedDocument, sent)


def _schema(response: httpx.Response) -> SchemaDocument:
    return _read(SchemaDocument, response)


def _read(model: type[M], response: httpx.Response) -> M:
    return model.model_validate_json(response.content, extra="ignore")
