"""A typed client of the registry.

::

    with RegistryClient("http://127.0.0.1:8484", token) as registry:
        made = registry.create_entity("table", "sales/orders", {"owner": "ada"})
        registry.patch_entity("table", "sales/orders", {"owner": "bob"}, etag=made.etag)
        for event in registry.follow():
            ...

Whatever the registry refuses is raised as one of :mod:`control_plane.registry.client_problems`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel

from control_plane.registry.addresses import entity_path, relationship_path
from control_plane.registry.bodies import JSON_PATCH, MERGE_PATCH
from control_plane.registry.client_calls import Calls
from control_plane.registry.client_feed import followed
from control_plane.registry.client_schemas import RelationshipTypes, Schemas
from control_plane.registry.commands.batches import BatchDocument
from control_plane.registry.documents import (
    DeletedDocument,
    DifferenceDocument,
    EntityDocument,
    EntityPage,
    EventDocument,
    EventPage,
    FoundDocument,
    GraphDocument,
    HistoryItem,
    HistoryPage,
    NewTokenDocument,
    RelationshipDocument,
    RelationshipPage,
    TokenDocument,
    TokenList,
    TypeDocument,
    TypesDocument,
)
from penstock.registry.events import API_SOURCE

M = TypeVar("M", bound=BaseModel)
Json = Mapping[str, Any]
Patch = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""An object for a merge patch, a list of operations for a JSON patch."""


class RegistryClient:
    """Talks to one registry with one token. Threads may share one."""

    def __init__(self, url: str, token: str, **options: Any) -> None:
        """``options`` are those of :class:`~control_plane.registry.client_calls.Calls`."""
        self.calls = Calls(url=url, token=token, **options)
        self.schemas = Schemas(self.calls)
        self.relationship_types = RelationshipTypes(self.calls)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self.calls.close()

    # Entities -----------------------------------------------------------------------------------------------

    def create_entity(
        self,
        type_name: str,
        key: str,
        attributes: Json,
        *,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> EntityDocument:
        """Make an entity that is not there."""
        body = {
            "type": type_name,
            "key": key,
            "source": source,
            "attributes": attributes,
            "reason": reason,
        }
        return _entity(self.calls.command("POST", "/entities", body, key=idempotency_key))

    def entity(
        self,
        type_name: str,
        key: str,
        *,
        source: str = API_SOURCE,
        at: datetime | None = None,
        version: int | None = None,
    ) -> EntityDocument:
        """Return an entity as it is, as it was at a moment, or as a version left it."""
        path = entity_path(type_name, key, source=source)
        moment = None if at is None else at.isoformat()
        return _entity(self.calls.read(path, at=moment, version=version))

    def entities(
        self, wanted: Sequence[tuple[str, str]], *, source: str = API_SOURCE
    ) -> list[EntityDocument | None]:
        """Return many entities by type and key, in order; None for those that are not there."""
        addresses = [{"type": name, "key": key, "source": source} for name, key in wanted]
        answer = self.calls.ask("/entities/lookup", {"entities": addresses})
        return _read(FoundDocument, answer).items

    def put_entity(
        self,
        type_name: str,
        key: str,
        attributes: Json,
        *,
        etag: str | None = None,
        only_new: bool = False,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> EntityDocument:
        """Set all attributes: of the version that ``etag`` names (``"*"`` for whatever is there), or of a new one."""
        path = entity_path(type_name, key, source=source)
        body = {"attributes": attributes, "reason": reason}
        sent = self.calls.command(
            "PUT", path, body, etag=etag, only_new=only_new, key=idempotency_key
        )
        return _entity(sent)

    def patch_entity(
        self,
        type_name: str,
        key: str,
        patch: Patch,
        *,
        etag: str,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> EntityDocument:
        """Change some attributes: an object is a merge patch, a list a JSON patch."""
        path = entity_path(type_name, key, source=source)
        return _entity(self._patch(path, patch, etag, reason, idempotency_key))

    def delete_entity(
        self,
        type_name: str,
        key: str,
        *,
        etag: str | None = None,
        cascade: bool = False,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> DeletedDocument:
        """Remove an entity, and with ``cascade`` its relationships."""
        path = entity_path(type_name, key, source=source)
        sent = self.calls.command(
            "DELETE", path, etag=etag, key=idempotency_key, cascade=cascade, reason=reason
        )
        return _read(DeletedDocument, sent)

    def act_on_entity(
        self,
        act: str,
        type_name: str,
        key: str,
        *,
        etag: str | None = None,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> EntityDocument:
        """``restore``, ``deprecate``, ``reinstate``, ``propose``, ``attest`` or ``reject`` an entity."""
        path = f"/{act}{entity_path(type_name, key, source=source)}"
        body = {"reason": reason}
        return _entity(self.calls.command("POST", path, body, etag=etag, key=idempotency_key))

    def roll_back_entity(
        self,
        type_name: str,
        key: str,
        version: int,
        *,
        etag: str | None = None,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> EntityDocument:
        """Give an entity the attributes of an earlier version."""
        path = f"/rollback{entity_path(type_name, key, source=source)}"
        body = {"version": version, "reason": reason}
        return _entity(self.calls.command("POST", path, body, etag=etag, key=idempotency_key))

    def search_entities(self, *, page_size: int = 100, **filters: Any) -> Iterator[EntityDocument]:
        """Yield what matches ``type``, ``source``, ``status``, ``review``, ``q`` and ``where``, page after page."""
        return self._paged("/entities", EntityPage, page_size, filters)

    def entity_history(
        self, type_name: str, key: str, *, source: str = API_SOURCE, page_size: int = 100
    ) -> Iterator[HistoryItem]:
        """Yield what happened to an entity, oldest first."""
        path = f"/history{entity_path(type_name, key, source=source)}"
        return self._paged(path, HistoryPage, page_size, {})

    def entity_difference(
        self, type_name: str, key: str, before: int, after: int, *, source: str = API_SOURCE
    ) -> DifferenceDocument:
        """Return what changed in an entity between two versions."""
        path = f"/diff{entity_path(type_name, key, source=source)}"
        return _read(DifferenceDocument, self.calls.read(path, before=before, after=after))

    def around_entity(
        self, type_name: str, key: str, *, depth: int = 1, source: str = API_SOURCE
    ) -> GraphDocument:
        """Return an entity with what relationships join it to."""
        path = f"/graph{entity_path(type_name, key, source=source)}"
        return _read(GraphDocument, self.calls.read(path, depth=depth))

    # Relationships ------------------------------------------------------------------------------------------

    def create_relationship(
        self,
        type_name: str,
        from_key: str,
        to_key: str,
        attributes: Json | None = None,
        *,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> RelationshipDocument:
        """Make a relationship between two entities."""
        body = {
            "type": type_name,
            "from_key": from_key,
            "to_key": to_key,
            "source": source,
            "attributes": attributes or {},
            "reason": reason,
        }
        sent = self.calls.command("POST", "/relationships", body, key=idempotency_key)
        return _read(RelationshipDocument, sent)

    def relationship(
        self, type_name: str, from_key: str, to_key: str, *, source: str = API_SOURCE
    ) -> RelationshipDocument:
        """Return a relationship."""
        path = relationship_path(type_name, from_key, to_key, source=source)
        return _read(RelationshipDocument, self.calls.read(path))

    def patch_relationship(
        self,
        type_name: str,
        from_key: str,
        to_key: str,
        patch: Patch,
        *,
        etag: str,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> RelationshipDocument:
        """Change some attributes of a relationship."""
        path = relationship_path(type_name, from_key, to_key, source=source)
        sent = self._patch(path, patch, etag, reason, idempotency_key)
        return _read(RelationshipDocument, sent)

    def delete_relationship(
        self,
        type_name: str,
        from_key: str,
        to_key: str,
        *,
        etag: str | None = None,
        source: str = API_SOURCE,
        reason: str = "",
        idempotency_key: str | None = None,
    ) -> DeletedDocument:
        """Remove a relationship."""
        path = relationship_path(type_name, from_key, to_key, source=source)
        sent = self.calls.command("DELETE", path, etag=etag, key=idempotency_key, reason=reason)
        return _read(DeletedDocument, sent)

    def search_relationships(
        self, *, page_size: int = 100, **filters: Any
    ) -> Iterator[RelationshipDocument]:
        """Yield what matches ``type``, ``source``, ``from_key``, ``to_key`` and ``where``, page after page."""
        return self._paged("/relationships", RelationshipPage, page_size, filters)

    # Everything ---------------------------------------------------------------------------------------------

    def carry_out(
        self, commands: Sequence[Json], *, atomic: bool = True, idempotency_key: str | None = None
    ) -> BatchDocument:
        """Carry out a batch of commands: all or nothing, or each by itself."""
        body = {"atomic": atomic, "commands": list(commands)}
        sent = self.calls.command("POST", "/batches", body, key=idempotency_key)
        return _read(BatchDocument, sent)

    def types(self) -> list[TypeDocument]:
        """Return the types that are declared or in use."""
        return _read(TypesDocument, self.calls.read("/types")).items

    def changes(self, *, after: str | None = None, page_size: int = 500) -> Iterator[EventDocument]:
        """Yield what has happened after a place in the feed, up to now."""
        while True:
            page = _read(EventPage, self.calls.read("/changes", after=after, limit=page_size))
            yield from page.items
            if not page.items:
                return
            after = page.next

    def follow(
        self, *, after: str | None = None, silence_s: float = 60.0
    ) -> Iterator[EventDocument]:
        """Yield what has happened after a place in the feed, and then what happens, for ever.

        A connection that breaks, or says nothing for ``silence_s``, is made again where it ended.
        """
        return followed(self.calls, after=after, silence_s=silence_s)

    # Tokens -------------------------------------------------------------------------------------------------

    def create_token(
        self, name: str, role: str, *, days: int = 90, reason: str = ""
    ) -> NewTokenDocument:
        """Make a token for the tenant; without an idempotency key, so that its text is answered once."""
        body = {"name": name, "role": role, "days": days, "reason": reason}
        return _read(NewTokenDocument, self.calls.once("/tokens", body))

    def tokens(self) -> list[TokenDocument]:
        """Return the tenant's tokens."""
        return _read(TokenList, self.calls.read("/tokens")).items

    def revoke_token(self, token_id: str, *, reason: str = "") -> TokenDocument:
        """Revoke a token of the tenant."""
        path = f"/tokens/{token_id}/revoke"
        return _read(TokenDocument, self.calls.command("POST", path, {"reason": reason}))

    # What they share ----------------------------------------------------------------------------------------

    def _patch(
        self, path: str, patch: Patch, etag: str, reason: str, key: str | None
    ) -> httpx.Response:
        media = MERGE_PATCH if isinstance(patch, Mapping) else JSON_PATCH
        return self.calls.command(
            "PATCH", path, patch, media=media, etag=etag, key=key, reason=reason
        )

    def _paged(
        self, path: str, model: type[BaseModel], page_size: int, filters: Mapping[str, Any]
    ) -> Iterator[Any]:
        after: Any = None
        while True:
            answer = self.calls.read(path, **filters, after=after, limit=page_size)
            page: Any = _read(model, answer)
            yield from page.items
            if page.next is None:
                return
            after = page.next


def _read(model: type[M], response: httpx.Response) -> M:
    """Read an answer; a newer server may say more than this client knows."""
    return model.model_validate_json(response.content, extra="ignore")


def _entity(response: httpx.Response) -> EntityDocument:
    return _read(EntityDocument, response)
