"""``penstock retain``: let old batches, plans and snapshots go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.use_cases.retention import Retained


def retain(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")
    ] = False,
    limit: Annotated[
        int, typer.Option(help="Let at most so many batches go.", min=1, max=100_000)
    ] = 1000,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is older than the retention policy keeps, and what nothing live needs."""
    from penstock.use_cases import retention
    from penstock.use_cases.acts import By as Signed

    signed = Signed(actor=showing.actor(by))
    done = retention.retain(showing.platform(), by=signed, dry_run=dry_run, limit=limit)
    showing.show(done, as_json, lambda: _told(done))


def _told(done: Retained) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    verb = "would go" if done.dry_run else "gone"
    yield (
        f"{verb}: {len(done.batches):,} batches, {done.objects:,} objects, {done.size_bytes:,} bytes"
    )
    if done.batches:
        made = table(f"batches: {verb}", "batch")
        for batch in done.batches:
            made.add_row(cell(batch))
        yield made
    if done.kept:
        made = table("batches: kept", "because", "batches", numbers=["batches"])
        for why, n in done.kept.items():
            made.add_row(cell(why), cell(f"{n:,}"))
        yield made
