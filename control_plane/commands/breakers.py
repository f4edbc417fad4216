"""``penstock breakers`` and ``penstock breaker reset``: targets that are left alone because they are down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.use_cases.breakers import BreakerOverview, BreakerReset

app = typer.Typer(help="Act on the circuit breaker of one target.", no_args_is_help=True)


def breakers(as_json: AsJson = False) -> None:
    """List the targets' circuit breakers: whether calls are let through, and if not, until when."""
    from penstock.use_cases.breakers import breaker_overviews

    found = breaker_overviews(showing.platform())
    showing.show({"breakers": found}, as_json, lambda: _listed(found))


@app.command("reset")
def reset(
    target: Annotated[str, typer.Argument(help="Target id.", metavar="TARGET")],
    by: By = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Close a target's circuit breaker now; what waits for it is due at once."""
    from penstock.identity import ids
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.breakers import reset_breaker

    signed = Signed(actor=showing.actor(by), reason=reason)
    done = reset_breaker(showing.platform(), ids.target_id(target), by=signed)
    showing.show(done, as_json, lambda: _reset(done))


def _listed(found: Sequence[BreakerOverview]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    numbers = ("failed", "of calls")
    made = table(
        "circuit breakers", "target", "status", "until", *numbers, "last error", numbers=numbers
    )
    for each in found:
        until = f"{each.open_until:%Y-%m-%d %H:%M:%S}" if each.open_until else ""
        style = "" if each.status == "closed" else "bold red"
        made.add_row(
            cell(each.target_id),
            cell(each.status, style),
            cell(until),
            cell(each.failures),
            cell(each.calls),
            cell(each.last_error or ""),
        )
    yield made


def _reset(done: BreakerReset) -> Iterator[RenderableType]:
    yield from _listed([done.breaker])
    if done.woken:
        yield f"{done.woken:,} batches that waited for it are due now"
