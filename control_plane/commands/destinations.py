"""``penstock destinations``: where events are sent to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from control_plane import showing
from control_plane.showing import AsJson, By, Limit, Reason

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.events.delivery import Delivery, Destination
    from penstock.use_cases.destinations import Directory

app = typer.Typer(help="Say where events are sent to.", invoke_without_command=True)
Id = Annotated[str, typer.Argument(help="Id of the destination.", metavar="DESTINATION")]
Types = Annotated[
    list[str] | None,
    typer.Option("--type", help="Only events of this type; may be repeated.", metavar="TYPE"),
]
Subjects = Annotated[
    list[str] | None,
    typer.Option(
        "--subject",
        help="Only events whose subject begins so; may be repeated.",
        metavar="BEGINNING",
    ),
]
Why = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")
]


@app.callback()
def destinations(context: typer.Context, as_json: AsJson = False) -> None:
    """List where events are sent to."""
    if context.invoked_subcommand is not None:
        return
    found = _directory().destinations.find()
    showing.show({"destinations": found}, as_json, lambda: _listed(found))


@app.command("add")
def add(
    destination: Id,
    address: Annotated[
        str, typer.Argument(help="A URL, or the name of an exchange.", metavar="ADDRESS")
    ],
    kind: Annotated[str, typer.Option(help="webhook or rabbitmq.", metavar="KIND")] = "webhook",
    tenant: Annotated[
        str, typer.Option(help="Whose events; * for everybody's.", metavar="TENANT")
    ] = "default",
    types: Types = None,
    subjects: Subjects = None,
    since: Annotated[
        str | None,
        typer.Option(help="Also what happened since a moment (ISO 8601).", metavar="MOMENT"),
    ] = None,
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Have events sent somewhere; the secret that webhooks are signed with is shown this once."""
    from penstock.errors import BadEvent
    from penstock.events.delivery import DestinationKind, Wanted
    from penstock.events.facts import PLATFORM_TENANT
    from penstock.identity import ids
    from penstock.use_cases.destinations import NewDestination, add_destination

    if kind not in set(DestinationKind):
        raise BadEvent(f"{kind!r} is no kind: use {' or '.join(DestinationKind)}")
    new = NewDestination(
        destination_id=destination,
        tenant_id=PLATFORM_TENANT if tenant == PLATFORM_TENANT else ids.tenant_id(tenant),
        kind=DestinationKind(kind),
        address=address,
        wanted=Wanted(types=tuple(types or ()), subjects=tuple(subjects or ())),
        since=None if since is None else _moment(since),
    )
    added = add_destination(_directory(), new, by=showing.signed(by, reason))
    showing.show(added, as_json, lambda: _added(added.destination, added.secret))


@app.command("remove")
def remove(destination: Id, reason: Reason, by: By = None, as_json: AsJson = False) -> None:
    """Send it nothing any more, and forget it."""
    from penstock.use_cases.destinations import remove_destination

    signed = showing.signed(by, reason)
    remove_destination(_directory(), destination, tenant=None, by=signed)
    answer = {"removed": destination}
    showing.show(answer, as_json, lambda: [f"{destination} is sent nothing any more"])


@app.command("enable")
def enable(destination: Id, by: By = None, reason: Why = None, as_json: AsJson = False) -> None:
    """Have it sent events again, from where it was."""
    from penstock.use_cases.destinations import enable_destination

    signed = showing.signed(by, reason)
    found = enable_destination(_directory(), destination, tenant=None, by=signed)
    showing.show(found, as_json, lambda: _listed([found]))


@app.command("disable")
def disable(destination: Id, reason: Reason, by: By = None, as_json: AsJson = False) -> None:
    """Have it sent nothing until it is enabled."""
    from penstock.use_cases.destinations import disable_destination

    signed = showing.signed(by, reason)
    found = disable_destination(_directory(), destination, tenant=None, by=signed)
    showing.show(found, as_json, lambda: _listed([found]))


@app.command("replay")
def replay(
    destination: Id,
    since: Annotated[str, typer.Option(help="From this moment on (ISO 8601).", metavar="MOMENT")],
    by: By = None,
    reason: Why = None,
    as_json: AsJson = False,
) -> None:
    """Have it sent again what happened since a moment, as far as it is kept."""
    from penstock.use_cases.destinations import replay_destination

    signed = showing.signed(by, reason)
    found = replay_destination(
        _directory(), destination, tenant=None, since=_moment(since), by=signed
    )
    showing.show(found, as_json, lambda: _listed([found]))


@app.command("rotate")
def rotate(destination: Id, by: By = None, reason: Why = None, as_json: AsJson = False) -> None:
    """Sign with a new secret, and for a day with the one before too."""
    from penstock.use_cases.destinations import rotate_secret

    signed = showing.signed(by, reason)
    secret = rotate_secret(_directory(), destination, tenant=None, by=signed)
    showing.show({"secret": secret}, as_json, lambda: [f"it signs with {secret} from now on"])


@app.command("test")
def try_it(destination: Id, by: By = None, as_json: AsJson = False) -> None:
    """Send one event of type penstock.test at once, and show what was said of it."""
    from penstock.use_cases.destinations import try_destination
    from resources.clock import SystemClock
    from resources.event_wiring import open_sender
    from resources.settings import Settings

    sender = open_sender(Settings.from_env(), SystemClock())
    signed = showing.signed(by, None)
    answer = try_destination(_directory(), sender, destination, tenant=None, by=signed)
    sender.close()
    said = "it took the event" if answer.taken else f"it did not take the event: {answer.error}"
    showing.show(answer, as_json, lambda: [said])


@app.command("deliveries")
def deliveries(destination: Id, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the last tries to send it something, newest first."""
    directory = _directory()
    directory.destinations.get(destination)
    found = directory.destinations.deliveries(destination, limit=limit)
    showing.show({"deliveries": found}, as_json, lambda: _tries(found))


def _directory() -> Directory:
    from resources.clock import SystemClock
    from resources.event_wiring import open_directory
    from resources.settings import Settings

    return open_directory(Settings.from_env(), showing.engine(), SystemClock())


def _moment(text: str) -> Any:
    from datetime import datetime

    from penstock.errors import InvalidIdentifier

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidIdentifier(f"{text!r} is no moment with its zone: write 2026-11-20T19:24:14Z")
    return moment


def _listed(found: Sequence[Destination]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table(
        "destinations",
        "id",
        "kind",
        "address",
        "tenant",
        "status",
        "failures",
        "last error",
        numbers=("failures",),
    )
    for each in found:
        good = each.status == "enabled" and not each.failures
        made.add_row(
            cell(each.destination_id),
            cell(each.kind.value),
            cell(each.address),
            cell(each.tenant_id),
            cell(each.status.value, "" if good else "bold red"),
            cell(each.failures),
            cell(each.disabled_why or each.last_error or ""),
        )
    yield made


def _added(destination: Destination, secret: str | None) -> Iterator[RenderableType]:
    yield from _listed([destination])
    if secret is not None:
        yield f"what it is sent is signed with {secret}: keep it, it is not shown again"


def _tries(found: Sequence[Delivery]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table("deliveries", "at", "type", "event", "try", "ms", "error", numbers=("try", "ms"))
    for each in found:
        made.add_row(
            cell(f"{each.at:%Y-%m-%d %H:%M:%S}"),
            cell(each.event_type),
            cell(each.event_id),
            cell(each.attempt),
            cell(each.duration_ms),
            cell(each.error or ""),
        )
    yield made
