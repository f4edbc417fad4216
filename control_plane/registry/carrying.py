"""Carrying out commands: the use case, the audit log, and the answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import Depends, Request
from starlette.responses import Response

from control_plane.registry.addresses import (
    API,
    entity_path,
    relationship_path,
    relationship_type_path,
    schema_path,
)
from control_plane.registry.calling import BackendOf, IdempotencyKey, IfMatchHeader, as_caller
from control_plane.registry.conditional import etag, if_match
from control_plane.registry.documents import held_document, stream_document
from control_plane.registry.schema_documents import relationship_type_document, schema_document
from control_plane.web.calling import current_caller
from control_plane.web.documents import Json
from control_plane.web.json_answers import json_response
from control_plane.web.problem_responses import refused
from penstock.access.tokens import Principal
from penstock.ports.audit_log import AuditEntry
from penstock.ports.registry import Held
from penstock.registry.commands import Caller, Command, Create, Noted
from penstock.registry.events import EventAction, StreamId, StreamKind
from penstock.registry.problems import Problem, ProblemKind
from penstock.use_cases.registry_audit import subject_of
from penstock.use_cases.registry_commands import carry_out
from penstock.use_cases.registry_platform import Done, RegistryPlatform
from penstock.use_cases.registry_queries import get

CREATED, OK = 201, 200


@dataclass(frozen=True)
class Acts:
    """What a handler of a command is given: one request's caller, and the audit log."""

    request: Request
    backend: BackendOf

    @property
    def platform(self) -> RegistryPlatform:
        """What use cases are given."""
        return self.backend.platform

    @property
    def principal(self) -> Principal:
        """Who asks."""
        principal = current_caller(self.request)
        assert principal is not None, "the gate lets nobody in here without a token"
        return principal

    def doing(self, act: str) -> Caller:
        """Return who asks, as use cases know it, and what the audit log is to say of what is asked."""
        return replace(as_caller(self.principal), noted=self._noted(act))

    def record(self, act: str, subject: str, status: int, **details: Any) -> None:
        """Put a command that left no event into the audit log: who, what, on what, and how it ended."""
        noted = self._noted(act)
        self.backend.audit.record_act(
            AuditEntry(
                at=self.platform.clock.now(),
                actor=self.principal.actor,
                act=noted.act,
                subject=subject,
                details={**noted.details, "status": status, **details},
            )
        )

    def _noted(self, act: str) -> Noted:
        """Return what is said of every command; what was sent is not."""
        principal = self.principal
        known = {
            "tenant": principal.tenant_id,
            "role": str(principal.role),
            "token": principal.caller_id,
        }
        return Noted(act=f"registry_{act}", details=known)


@dataclass(frozen=True)
class Commands(Acts):
    """The same for commands that are carried out once under a key."""

    idempotency_key: IdempotencyKey = None

    def carry_out(self, act: str, command: Command) -> Response:
        """Carry out one command, record it, and answer with what it left."""
        answer = carry_out(
            self.platform, command, self.doing(act), idempotency_key=self.idempotency_key
        )
        return self.answered(
            act, subject_of(command.stream), answer, made=isinstance(command, Create)
        )

    def answered(
        self, act: str, subject: str, answer: Done | Problem, *, made: bool = False
    ) -> Response:
        """Return the response of a command, or raise its problem; what has left no event is recorded here."""
        if isinstance(answer, Problem):
            self.record(act, subject, answer.status)
            raise refused(answer)
        status = CREATED if made or self._created(answer) else OK
        if not answer.left_event:
            self.record(act, subject, status)
        return done_response(answer, status=status)

    def _created(self, done: Done) -> bool:
        """Say whether a command that may replace or create has created."""
        if done.held is None or done.operation_id is None:
            return False
        if done.held.version == 1:
            return True
        tenant = self.principal.tenant_id
        (event,) = self.platform.store.operations(tenant, [done.operation_id])
        return event is not None and event.action is EventAction.CREATE


@dataclass(frozen=True)
class Changes(Commands):
    """The same for commands on what is there, which say what they expect of it."""

    if_match: IfMatchHeader = None

    def expected(self, stream: StreamId) -> bytes | None:
        """Return the version that ``If-Match`` says: a tag, that of whatever is there for ``*``, or None."""
        said = if_match(self.if_match)
        if not said.anything:
            return said.tag
        there = get(self.platform, stream)
        if isinstance(there, Problem):
            raise refused(
                Problem(
                    kind=ProblemKind.VERSION_MISMATCH,
                    detail=f"If-Match: * expects something, and there is nothing: {there.detail}",
                )
            )
        return there.version_tag


ActsOf = Annotated[Acts, Depends(Acts)]
CommandsOf = Annotated[Commands, Depends(Commands)]
ChangesOf = Annotated[Changes, Depends(Changes)]


def done_response(done: Done, *, status: int) -> Response:
    """Return the response of a command that was carried out."""
    headers = {"Idempotent-Replayed": "true"} if done.repeated else {}
    if done.held is not None:
        headers["ETag"] = etag(done.held.version_tag)
        headers["Location"] = path_of(done.stream)
        return json_response(done_document(done), status=status, headers=headers)
    return json_response(done_document(done), headers=headers)


def done_document(done: Done) -> Json:
    """Return what a command left, or what is gone."""
    if done.held is not None:
        return shown(done.held)
    return {
        "deleted": stream_document(done.stream),
        "cascaded": [stream_document(each) for each in done.cascaded],
    }


def shown(held: Held) -> Json:
    """Return what is there, as its kind is shown."""
    match held.stream.kind:
        case StreamKind.SCHEMA:
            return schema_document(held)
        case StreamKind.RELATIONSHIP_TYPE:
            return relationship_type_document(held)
        case _:
            return held_document(held)


def path_of(stream: StreamId) -> str:
    """Return where something is read."""
    match stream.kind:
        case StreamKind.ENTITY:
            return API + entity_path(stream.type_name, stream.key, source=stream.source_id)
        case StreamKind.RELATIONSHIP:
            ends = (stream.key, stream.to_key or "")
            return API + relationship_path(stream.type_name, *ends, source=stream.source_id)
        case StreamKind.SCHEMA:
            return API + schema_path(stream.key)
        case StreamKind.RELATIONSHIP_TYPE:
            return API + relationship_type_path(stream.key)


def not_modified(tag: bytes) -> Response:
    """Return the response to one who has seen this version already."""
    return Response(status_code=304, headers={"ETag": etag(tag)})
