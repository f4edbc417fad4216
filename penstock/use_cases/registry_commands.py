"""Carry commands out: decide, append, and decide anew if others were faster.

Under an idempotency key a command is carried out once: its operation id follows from tenant and key, and the event
keeps a digest of the command. A repetition answers what the first time left; the same key with another command is a
refusal. A refused command leaves nothing, so that it may be sent again, mended, under the same key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from penstock.errors import NotCanonical
from penstock.identity.canonical import canonical_text
from penstock.identity.digest import digest
from penstock.ports.audit_log import AuditEntry
from penstock.ports.registry import Appended, Held, Unmet, VersionConflict
from penstock.registry.commands import Caller, Command, Create, Delete, Replace, Restore, RollBack
from penstock.registry.events import EventAction, RecordedEvent, StreamId
from penstock.registry.identifiers import (
    MAX_ACTOR_CHARACTERS,
    MAX_IDEMPOTENCY_KEY_CHARACTERS,
    address,
    named,
    text_errors,
)
from penstock.registry.problems import Problem, ProblemError, ProblemKind
from penstock.use_cases.registry_audit import done_entry, subject_of
from penstock.use_cases.registry_decisions import Decision, Setting, decide, left_by
from penstock.use_cases.registry_platform import BatchResult, Done, RegistryPlatform
from penstock.use_cases.registry_refusals import is_contended
from penstock.use_cases.registry_rules import Rules
from penstock.use_cases.registry_view import RegistryView

COMMAND = "command"
"""Under which an event's data keep the digest of a command that had an idempotency key."""
_TAG_KEY, _TAG_COMMAND = b"I", b"C"
MAX_REASON = 2_000


def carry_out(
    platform: RegistryPlatform,
    command: Command,
    caller: Caller,
    *,
    idempotency_key: str | None = None,
) -> Done | Problem:
    """Carry one command out, or refuse it with everything that is wrong with it."""
    if (problem := _bad_request(caller, [command], idempotency_key)) is not None:
        return problem
    batch = _Batch.of(platform, [command], caller, idempotency_key)
    if isinstance(batch, Problem):
        return batch
    answer = batch.together()
    return answer if isinstance(answer, Problem) else answer[0]


def carry_out_many(
    platform: RegistryPlatform,
    commands: Sequence[Command],
    caller: Caller,
    *,
    atomic: bool,
    idempotency_key: str | None = None,
) -> BatchResult | Problem:
    """Carry out a batch: all or nothing if it is ``atomic``, else each by itself.

    Returns what became of each command. Where an atomic batch is refused, what is wrong with every command is said,
    and those with nothing wrong are ``not_done``. Returns a problem for a batch that is refused as a whole.
    """
    most = platform.policy_of(caller.tenant_id).most_in_batch
    if len(commands) > most:
        return Problem(
            kind=ProblemKind.TOO_MANY,
            detail=f"a batch of {len(commands):,} commands is over the limit of {most:,}: send it in parts",
        )
    if (problem := _bad_request(caller, commands, idempotency_key)) is not None:
        return problem
    batch = _Batch.of(platform, commands, caller, idempotency_key)
    if isinstance(batch, Problem):
        return batch
    if not atomic:
        return BatchResult(items=tuple(batch.one(n) for n in range(len(commands))))
    answer = replace(batch, whole=True).together()
    if isinstance(answer, Problem):
        return answer if len(commands) != 1 else BatchResult(items=(answer,))
    return BatchResult(items=answer)


def _bad_request(
    caller: Caller, commands: Sequence[Command], idempotency_key: str | None
) -> Problem | None:
    errors = text_errors(caller.actor, "actor", MAX_ACTOR_CHARACTERS)
    if idempotency_key is not None:
        most = MAX_IDEMPOTENCY_KEY_CHARACTERS
        errors += text_errors(idempotency_key, "idempotency_key", most)
    for n, command in enumerate(commands):
        if len(command.reason) > MAX_REASON:
            message = f"the reason has more than {MAX_REASON:,} characters"
            path = "/reason" if len(commands) == 1 else f"/{n}/reason"
            errors.append(ProblemError(path=path, rule="maxLength", message=message))
    if not errors:
        return None
    return Problem(kind=ProblemKind.INVALID_REQUEST, detail=errors[0].message, errors=tuple(errors))


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Commands of one request."""

    platform: RegistryPlatform
    commands: Sequence[Command]
    caller: Caller
    operation_ids: Sequence[bytes]
    receipts: Sequence[Mapping[str, Any]]
    rules: Rules
    whole: bool = False
    """Whether the audit log has one entry for all of them."""

    @classmethod
    def of(
        cls,
        platform: RegistryPlatform,
        commands: Sequence[Command],
        caller: Caller,
        key: str | None,
    ) -> _Batch | Problem:
        tenant = caller.tenant_id
        if key is None:
            operation_ids = [platform.new_id() for _ in commands]
            receipts: list[dict[str, Any]] = [{} for _ in commands]
        else:
            parts = [digest(_TAG_KEY, tenant.encode(), key.encode("utf-8", "surrogatepass"))]
            operation_ids = [digest(_TAG_KEY, *parts, b"%d" % n) for n in range(len(commands))]
            try:
                receipts = [{COMMAND: fingerprint(each).hex()} for each in commands]
            except NotCanonical as error:
                return Problem(kind=ProblemKind.INVALID_REQUEST, detail=str(error))
        return cls(
            platform=platform,
            commands=commands,
            caller=caller,
            operation_ids=operation_ids,
            receipts=receipts,
            rules=Rules.of(platform, tenant),
        )

    # Each by itself -----------------------------------------------------------------------------------------

    def one(self, n: int) -> Done | Problem:
        """Carry out one command by itself."""
        alone = replace(
            self,
            commands=self.commands[n : n + 1],
            operation_ids=self.operation_ids[n : n + 1],
            receipts=self.receipts[n : n + 1],
        )
        answer = alone.together()
        if isinstance(answer, Problem):
            return answer
        return answer[0]

    # All or nothing -----------------------------------------------------------------------------------------

    def together(self) -> tuple[Done, ...] | tuple[Done | Problem, ...] | Problem:
        """Carry all commands out in one append; with one command, its problem is the answer's."""
        repeated = self._repetition()
        for _ in range(self.platform.attempts):
            if repeated is not None:
                return repeated
            answer = self._attempt()
            if answer is not None:
                return answer
            repeated = self._repetition()
        return is_contended(self.commands[0].stream, self.platform.attempts)

    def _repetition(self) -> tuple[Done, ...] | Problem | None:
        """Return what the first time left, if this was done before."""
        if not self.commands or not self.receipts[0]:
            return None
        found = self.platform.store.operations(self.caller.tenant_id, self.operation_ids)
        if not any(found):
            return None
        for command, event, receipt in zip(self.commands, found, self.receipts, strict=True):
            if event is None or event.data.get(COMMAND) != receipt[COMMAND]:
                return Problem(
                    kind=ProblemKind.KEY_REUSED,
                    detail="this idempotency key was used for another command than this one on "
                    f"{named(command.stream)}: use a new key for a new command",
                    more={} if event is None else {"first_used_for": address(event.stream)},
                )
        return tuple(_answer_again(event) for event in found if event is not None)

    def _attempt(self) -> tuple[Done, ...] | tuple[Done | Problem, ...] | Problem | None:
        """Decide and append; None if others were faster."""
        now = self.platform.clock.now()
        view = self._view(now)
        decisions = self._decisions(view)
        if problems := [each for each in decisions if isinstance(each, Problem)]:
            return problems[0] if len(decisions) == 1 else tuple(map(_not_done, decisions))
        decided = [each for each in decisions if isinstance(each, Decision)]
        appends = [append for decision in decided for append in decision.appends]
        requires = list(dict.fromkeys(r for decision in decided for r in decision.requires))
        if not appends:
            return tuple(_done(decision, {}) for decision in decided)
        entry = self._entry(decided, now)
        result = self.platform.store.append(appends, requires=requires, now=now, entry=entry)
        match result:
            case Appended(repeated=False):
                streams = [append.event.stream for append in appends]
                held = dict(zip(streams, result.held, strict=True))
                return tuple(_done(decision, held) for decision in decided)
            case Appended() | VersionConflict() | Unmet():
                return None

    def _entry(self, decided: Sequence[Decision], now: datetime) -> AuditEntry | None:
        """Return what the audit log says of what was decided."""
        count = len(decided)
        if self.whole:
            about = {"commands": count, "done": count}
            return done_entry(self.caller, "batch", made=False, now=now, **about)
        made = any(append.event.action is EventAction.CREATE for append in decided[0].appends)
        return done_entry(self.caller, subject_of(decided[0].stream), made=made, now=now)

    def _view(self, now: datetime) -> RegistryView:
        announced, doomed = set[StreamId](), set[StreamId]()
        if len(self.commands) > 1:
            for each in self.commands:
                if isinstance(each, Create | Replace | Restore | RollBack):
                    announced.add(each.stream)
                elif isinstance(each, Delete):
                    doomed.add(each.stream)
        view = RegistryView(
            store=self.platform.store,
            tenant=self.caller.tenant_id,
            now=now,
            announced=frozenset(announced),
            doomed=frozenset(doomed),
        )
        view.get_many([each.stream for each in self.commands])
        return view

    def _decisions(self, view: RegistryView) -> list[Decision | Problem]:
        decisions = []
        policy = self.platform.policy_of(self.caller.tenant_id)
        for n, command in enumerate(self.commands):
            setting = Setting(
                view=view,
                rules=self.rules,
                policy=policy,
                caller=self.caller,
                operation_id=self.operation_ids[n],
                receipt=self.receipts[n],
            )
            decision = decide(setting, command)
            if isinstance(decision, Decision):
                view.decided(decision.appends)
            decisions.append(decision)
        return decisions


def fingerprint(command: Command) -> bytes:
    """Return the digest of a command: the same for the same command only.

    Raises :class:`~penstock.errors.NotCanonical` for attributes that nothing could store.
    """
    said = {each.name: getattr(command, each.name) for each in fields(command)}
    said |= {"stream": address(command.stream), "is": type(command).__name__}
    return digest(_TAG_COMMAND, canonical_text({"command": said}))


def _done(decision: Decision, held: Mapping[StreamId, Held | None]) -> Done:
    if not decision.appends:
        return Done(stream=decision.stream, held=decision.held, operation_id=None)
    own, *also = decision.appends
    return Done(
        stream=decision.stream,
        held=held[decision.stream],
        operation_id=own.event.operation_id,
        cascaded=tuple(append.event.stream for append in also),
    )


def _answer_again(event: RecordedEvent) -> Done:
    return Done(
        stream=event.stream,
        held=left_by(event),
        operation_id=event.operation_id,
        repeated=True,
    )


def _not_done(decision: Decision | Problem) -> Done | Problem:
    """Say of a command with nothing wrong that others of its batch were refused."""
    if isinstance(decision, Problem):
        return decision
    return Problem(
        kind=ProblemKind.NOT_DONE,
        detail=f"nothing is wrong with this, but another command of the batch was refused: {named(decision.stream)} "
        "is as it was",
    )
