"""``penstock events``: what happened, and what others told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By, Limit, Reason

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.events.envelope import OutboxEvent
    from penstock.ports.events import InboxEvent

app = typer.Typer(
    help="Look at what happened, and at what others told.", invoke_without_command=True
)
Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.", metavar="TENANT")]


@app.callback()
def events(
    context: typer.Context,
    kind: Annotated[
        list[str] | None, typer.Option("--type", help="Only events of this type.", metavar="TYPE")
    ] = None,
    tenant: Tenant = None,
    after: Annotated[
        str | None,
        typer.Option(help="Only what came after the event of this id.", metavar="EVENT"),
    ] = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List events in the order of commits, from the oldest that is kept."""
    if context.invoked_subcommand is not None:
        return
    from penstock.errors import NotFound
    from penstock.events.envelope import OutboxCursor
    from penstock.identity import ids
    from resources.control_db.outbox_log import SqlEventLog

    log = SqlEventLog.from_engine(showing.engine())
    place = OutboxCursor() if after is None else log.place_of(after)
    if place is None:
        raise NotFound(f"there is no event {after!r}: it was removed, or never told")
    found = log.read(
        place,
        limit=limit,
        tenant=None if tenant is None else ids.tenant_id(tenant),
        types=tuple(kind or ()),
    )
    from penstock.events.cloudevents import structured

    answer = {"events": [structured(each) for each in found]}
    showing.show(answer, as_json, lambda: _told(found))


@app.command("inbox")
def inbox(
    status: Annotated[
        str | None, typer.Option(help="waiting, done or dead.", metavar="STATUS")
    ] = None,
    tenant: Tenant = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List events that came in, newest first, with what became of them."""
    from penstock.errors import BadEvent
    from penstock.identity import ids
    from penstock.ports.events import InboxStatus
    from resources.control_db.inbox import SqlInbox

    if status is not None and status not in set(InboxStatus):
        raise BadEvent(f"{status!r} is no status: use {', '.join(InboxStatus)}")
    found = SqlInbox.from_engine(showing.engine()).find(
        tenant=None if tenant is None else ids.tenant_id(tenant),
        status=None if status is None else InboxStatus(status),
        limit=limit,
    )
    showing.show({"events": found}, as_json, lambda: _heard(found))


@app.command("requeue")
def requeue(
    position: Annotated[
        int, typer.Argument(help="Number of the event in the inbox.", metavar="NUMBER")
    ],
    reason: Reason,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Have an event that came in and is dead tried again."""
    from resources.clock import SystemClock
    from resources.control_db.inbox import SqlInbox

    now = SystemClock().now()
    act = showing.signed(by, reason).entry("event.requeue", str(position), now=now)
    event = SqlInbox.from_engine(showing.engine()).requeue(position, act=act)
    showing.show(event, as_json, lambda: _heard([event]))


def _told(found: Sequence[OutboxEvent]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table("events", "time", "type", "subject", "tenant", "id")
    for each in found:
        made.add_row(
            cell(f"{each.time:%Y-%m-%d %H:%M:%S}"),
            cell(each.type),
            cell(each.subject),
            cell(each.tenant_id),
            cell(each.event_id),
        )
    yield made


def _heard(found: Sequence[InboxEvent]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table(
        "inbox",
        "number",
        "received",
        "type",
        "subject",
        "status",
        "tries",
        "error",
        numbers=("tries",),
    )
    for each in found:
        made.add_row(
            cell(each.position),
            cell(f"{each.received_at:%Y-%m-%d %H:%M:%S}"),
            cell(each.arrival.type),
            cell(each.arrival.subject),
            cell(each.status.value, "bold red" if each.status == "dead" else ""),
            cell(each.attempts),
            cell(each.error_message or ""),
        )
    yield made
