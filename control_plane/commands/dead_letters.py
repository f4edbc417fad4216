"""``penstock dead-letters``: look at what failed, mend it, try it again, or let it be."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By, Limit, Reason, Source, Target

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.ports.dead_letters import DeadLetter, LetterFilter, LetterGroup
    from penstock.use_cases.dead_letters import LetterDetails, Requeued

app = typer.Typer(
    help="Look at what could not be published, mend it, and try it again.",
    invoke_without_command=True,
)
Letter = Annotated[str, typer.Argument(help="Id of a dead letter.", metavar="ID")]
Letters = Annotated[list[str], typer.Argument(help="Ids of dead letters.", metavar="ID...")]
Fingerprint = Annotated[
    str | None, typer.Option("--fingerprint", help="Only of this cause.", metavar="HEX")
]
Code = Annotated[str | None, typer.Option("--code", help="Only with this error code.")]
Type = Annotated[str | None, typer.Option("--type", help="Only of this entity type.")]
Status = Annotated[
    str | None,
    typer.Option("--status", help="open, requeued, resolved, discarded or superseded."),
]


@app.callback()
def dead_letters(
    context: typer.Context,
    source: Source = None,
    target: Target = None,
    status: Status = None,
    fingerprint: Fingerprint = None,
    code: Code = None,
    type_name: Type = None,
    after: Annotated[
        str | None, typer.Option("--after", help="The last id of the page before.", metavar="ID")
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List what could not be published as it is, newest first, and why."""
    if context.invoked_subcommand is not None:
        return
    from penstock.use_cases.dead_letters import list_letters

    platform = showing.platform()
    if source is not None:
        platform.control.get_source(showing.source(source) or source)  # type: ignore[arg-type]
    chosen = _filter(source, target, status, fingerprint, code, type_name)
    found = list_letters(platform, chosen=chosen, after=after, limit=limit)
    showing.show({"dead_letters": found}, as_json, lambda: _listed(found))


@app.command("groups")
def groups(
    source: Source = None, status: Status = "open", limit: Limit = 20, as_json: AsJson = False
) -> None:
    """Count dead letters by cause, the newest cause first."""
    from penstock.use_cases.dead_letters import letter_groups

    chosen = _filter(source, None, status, None, None, None)
    found = letter_groups(showing.platform(), chosen=chosen, limit=limit)
    showing.show(found, as_json, lambda: _grouped(found))


@app.command("show")
def show(letter: Letter, as_json: AsJson = False) -> None:
    """Show one dead letter: data, failure, history, and what it keeps from being sent."""
    from penstock.use_cases.dead_letters import inspect_letter

    found = inspect_letter(showing.platform(), letter)
    showing.show(found, as_json, lambda: _shown(found))


@app.command("fix")
def fix(
    letter: Letter,
    patch: Annotated[
        Path, typer.Option("--patch", help="File with a JSON patch (RFC 6902).", exists=True)
    ],
    reason: Annotated[str | None, typer.Option("--reason", help="Why.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Mend the attributes of one dead letter and try it again, with all that it blocked."""
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.dead_letters import fix_letter

    signed = Signed(actor=showing.actor(by), reason=reason)
    done = fix_letter(showing.platform(), letter, patch.read_text(), by=signed)
    showing.show(done, as_json, lambda: _requeued(done))


@app.command("requeue")
def requeue(
    letters: Annotated[
        list[str] | None, typer.Argument(help="Ids of dead letters.", metavar="[ID...]")
    ] = None,
    source: Source = None,
    target: Target = None,
    fingerprint: Fingerprint = None,
    code: Code = None,
    type_name: Type = None,
    limit: Limit = 10_000,
    reason: Annotated[str | None, typer.Option("--reason", help="Why.")] = None,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Try dead letters again: those named, or all open ones of a fingerprint, code, type, source or target."""
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.dead_letters import requeue_letters

    given = (source, target, fingerprint, code, type_name)
    chosen = None
    if any(given):
        chosen = _filter(source, target, None, fingerprint, code, type_name)
    done = requeue_letters(
        showing.platform(),
        by=Signed(actor=showing.actor(by), reason=reason),
        dead_letter_ids=letters or (),
        chosen=chosen,
        limit=limit,
    )
    showing.show(done, as_json, lambda: _requeued(done))


@app.command("discard")
def discard(letters: Letters, reason: Reason, by: By = None, as_json: AsJson = False) -> None:
    """Decide that dead letters are not wanted; they are kept, with the reason."""
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.dead_letters import discard_letters

    signed = Signed(actor=showing.actor(by), reason=reason)
    count = discard_letters(showing.platform(), letters, by=signed)
    showing.show({"discarded": count}, as_json, lambda: [f"discarded {count:,}"])


def _filter(
    source: str | None,
    target: str | None,
    status: str | None,
    fingerprint: str | None,
    code: str | None,
    type_name: str | None,
) -> LetterFilter:
    from penstock.errors import InvalidIdentifier
    from penstock.ports.dead_letters import LetterFilter
    from penstock.publish.dead_letters import LetterStatus

    if status is not None and status not in set(LetterStatus):
        raise InvalidIdentifier(
            f"{status!r} is no status of a dead letter: give one of {', '.join(LetterStatus)}"
        )
    return LetterFilter(
        source=showing.source(source),
        target=showing.target(target),
        status=None if status is None else LetterStatus(status),
        fingerprint=fingerprint,
        code=code,
        type_name=type_name,
    )


def _listed(found: Sequence[DeadLetter]) -> Iterator[RenderableType]:
    from rich.text import Text

    from control_plane.tables import cell, table

    if not found:
        yield "no dead letters"
        return
    made = table("dead letters", "id, code, time", "what", "what is wrong")
    for each in found:
        first = (each.dead_letter_id, f"{each.status} {each.code}", each.recorded_at)
        what = each.subject
        if each.key is not None:
            to = f" -> {each.to_key}" if each.to_key else ""
            what = f"{each.action} {each.type_name} {each.key}{to}\n{each.batch_id}"
        made.add_row(Text("\n").join(map(cell, first)), cell(what), cell(each.message))
    yield made


def _grouped(found: Sequence[LetterGroup]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table(
        "dead letters by cause",
        "fingerprint",
        "code",
        "type",
        "letters",
        "newest",
        "says",
        numbers=["letters"],
    )
    for group in found:
        made.add_row(
            cell(group.fingerprint),
            cell(group.code),
            cell(group.type_name or ""),
            cell(f"{group.letters:,}"),
            cell(f"{group.last_at:%Y-%m-%d %H:%M}"),
            cell(group.message[:200]),
        )
    yield made if found else "no dead letters"


def _shown(found: LetterDetails) -> Iterator[RenderableType]:
    from control_plane.answers import plain
    from control_plane.tables import cell, table

    yield from _listed([found.letter])
    if found.superseded:
        yield "superseded: the target has something newer of this entity"
    if found.attributes is not None:
        yield json.dumps(plain(found.attributes), indent=1, ensure_ascii=False)
    yield f"fingerprint {found.letter.fingerprint}"
    if found.letter.data_path is not None:
        yield f"the original lies at\n{found.letter.data_path}"
    history = table("history", "at", "what", "by", "says")
    for each in found.history:
        history.add_row(
            cell(f"{each.at:%Y-%m-%d %H:%M:%S}"),
            cell(each.event),
            cell(each.actor or ""),
            cell(each.message or ""),
        )
    yield history
    if found.blocked:
        made = table(
            f"keeps {found.blocked_operations:,} operations from being sent",
            "action",
            "type",
            "key",
        )
        for blocked in found.blocked[:20]:
            to = f" -> {blocked.to_key}" if blocked.to_key else ""
            made.add_row(cell(blocked.action), cell(blocked.type_name), cell(blocked.key + to))
        yield made


def _requeued(done: Requeued) -> Iterator[RenderableType]:
    yield f"{done.letters:,} on their way again, {done.superseded:,} superseded and closed"
    for manifest in done.corrections:
        yield f"landed as batch {manifest.batch_id}, which is in the queue"
    for batch in done.batches:
        yield f"batch {batch} is in the queue"
