"""``penstock registry verify`` and ``projections``: whether the log is what it was, and what follows it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson

if TYPE_CHECKING:
    from rich.console import RenderableType

    from resources.registry.projections import ProjectionRunner, Rebuilt
    from resources.registry.seals import Verified
    from resources.registry.standing import Standing

projections_app = typer.Typer(
    help="What follows the registry's log: the search index, counts, activity, the seal.",
    invoke_without_command=True,
)


def verify(as_json: AsJson = False) -> None:
    """Compute the hash chain over the registry's log again; exit 1 where it does not hold, naming the event.

    Keep the last hash somewhere else: a log that was cut off with its chain still holds, but ends in another.
    """
    from resources.registry.seals import SealVerifier

    with _runner() as runner:
        verified = SealVerifier(runner.engine).verify()
    answer = {
        "holds": verified.broken is None,
        "blocks": verified.blocks,
        "events": verified.events,
        "unsealed": verified.unsealed,
        "last_hash": verified.last_hash.hex(),
        "broken": verified.broken,
    }
    showing.show(answer, as_json, lambda: _said(verified))
    if verified.broken is not None:
        raise typer.Exit(1)


def _said(verified: Verified) -> Iterator[RenderableType]:
    yield (
        f"{verified.blocks:,} blocks with {verified.events:,} events hold; the last hash is "
        f"{verified.last_hash.hex()}"
    )
    if verified.broken is not None:
        yield f"block {verified.broken.block:,} does not: {verified.broken.what}"
    elif verified.unsealed:
        yield f"{verified.unsealed:,} events after it are not sealed yet"


@projections_app.callback()
def projections(context: typer.Context, as_json: AsJson = False) -> None:
    """List the projections, how far each has come, and how many events it is behind."""
    if context.invoked_subcommand is not None:
        return
    from resources.registry.standing import standings

    with _runner() as runner:
        found = standings(runner)
    showing.show({"projections": found}, as_json, lambda: _listed(found))


def _listed(found: Sequence[Standing]) -> Iterator[RenderableType]:
    from rich.table import Table

    table = Table(title="Projections of the registry's log", title_justify="left")
    for heading in ("projection", "generation", "status", "events", "behind"):
        table.add_column(heading, overflow="fold")
    for each in found:
        table.add_row(
            each.name, str(each.generation), each.status, f"{each.events:,}", f"{each.behind:,}"
        )
    yield table


Name = Annotated[str, typer.Argument(help="search, counts or activity.", metavar="NAME")]


@projections_app.command("rebuild")
def rebuild(name: Name, as_json: AsJson = False) -> None:
    """Make a projection anew from the beginning of the log, beside the live one, and have it take over."""
    with _runner() as runner:
        rebuilt = runner.rebuild(name)
    answer = {"projection": name, "generation": rebuilt.generation, "events": rebuilt.events}
    showing.show(answer, as_json, lambda: _rebuilt(name, rebuilt))


def _rebuilt(name: str, rebuilt: Rebuilt) -> Iterator[RenderableType]:
    yield f"{name} was made anew from {rebuilt.events:,} events; generation {rebuilt.generation} is live"


@projections_app.command("catch-up")
def catch_up(as_json: AsJson = False) -> None:
    """Bring every projection up to date now; a running server does so by itself."""
    with _runner() as runner:
        done = {name: runner.catch_up(name) for name in runner.names}
    told = [f"{name}: {events:,} events" for name, events in done.items()]
    showing.show({"projected": done}, as_json, lambda: iter(told))


@contextmanager
def _runner() -> Iterator[ProjectionRunner]:
    from resources.clock import SystemClock
    from resources.control_db.engine import open_engine
    from resources.control_db.schema import upgrade
    from resources.registry.running import runner_of
    from resources.settings import Settings

    settings = Settings.from_env()
    if settings.database_url is None:
        settings.home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.control_url)
    engine = open_engine(settings.control_url)
    runner = runner_of(engine, SystemClock())
    try:
        yield runner
    finally:
        runner.release()
        engine.dispose()
