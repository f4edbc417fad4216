"""``penstock audit``: who did what, when and why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, Limit, Source

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.ports.audit_log import AuditEntry


def audit(
    subject: Annotated[
        str | None, typer.Option(help="Only acts on this: a batch id, ...", metavar="ID")
    ] = None,
    source: Source = None,
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List what people did, newest first."""
    found = showing.platform().control.list_acts(
        subject=subject, source=showing.source(source), limit=limit
    )
    showing.show(found, as_json, lambda: _listed(found))


def _listed(found: Sequence[AuditEntry]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table("acts", "at", "who", "act", "on", "reason", "details")
    for entry in found:
        made.add_row(
            cell(f"{entry.at:%Y-%m-%d %H:%M:%S}"),
            cell(entry.actor),
            cell(entry.act),
            cell(entry.subject),
            cell(entry.reason or ""),
            cell(json.dumps(dict(entry.details)) if entry.details else ""),
        )
    yield made if found else "nobody has done anything yet"
