"""What every command shares: the options that many take, the platform it asks, and how an answer is shown."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType
    from sqlalchemy import Engine

    from penstock.identity.ids import SourceId, TargetId
    from penstock.use_cases.acts import By as Signed
    from penstock.use_cases.platform import Platform

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Batch = Annotated[str, typer.Argument(help="Batch id: <source>@<timestamp>.", metavar="BATCH")]
Source = Annotated[str | None, typer.Option(help="Only this source.", metavar="SOURCE")]
Target = Annotated[
    str | None,
    typer.Option(help="Target id; needed where a batch goes to several.", metavar="TARGET"),
]
Limit = Annotated[int, typer.Option(help="Show at most so many.", min=1, max=100_000)]
By = Annotated[
    str | None,
    typer.Option("--by", help="Who asks for it; the login name by default.", metavar="WHO"),
]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")]


def platform() -> Platform:
    """Open the platform that the settings describe; raises ``NotFound`` where there is no data yet."""
    from penstock.errors import NotFound
    from resources import wiring
    from resources.settings import Settings

    settings = Settings.from_env()
    if settings.database_url is None and not (settings.home / "control.db").exists():
        raise NotFound(
            f"there is no Penstock data in {settings.home}: run `penstock up` or `penstock demo` first, or "
            "set PENSTOCK_HOME to the folder that has it"
        )
    return wiring.open_platform(settings)


def engine() -> Engine:
    """Open the control database that the settings describe; raises ``NotFound`` where there is none yet."""
    from resources.control_db.store import SqlControlStore

    control = platform().control
    assert isinstance(control, SqlControlStore)
    return control.engine


def show(answer: Any, as_json: bool, renderables: Callable[[], Iterable[RenderableType]]) -> None:
    """Print an answer as one JSON document, or as what ``renderables`` gives, each after an empty line."""
    if as_json:
        from control_plane.answers import to_json

        sys.stdout.write(to_json(answer) + "\n")
        return
    from control_plane.tables import console

    out = console()
    for number, each in enumerate(renderables()):
        if number:
            out.print()
        out.print(each, soft_wrap=isinstance(each, str), markup=False, highlight=False)


def actor(by: str | None) -> str:
    """Return who asks: as named, or the login name."""
    return by or getpass.getuser()


def signed(by: str | None, reason: str | None) -> Signed:
    """Return who asks and why, as the audit log keeps it; raises ``Unsigned`` for nobody."""
    from penstock.use_cases.acts import By as Signed

    return Signed(actor=actor(by), reason=reason)


def source(text: str | None) -> SourceId | None:
    """Read a source id, or raise ``InvalidIdentifier``."""
    from penstock.identity import ids

    return None if text is None else ids.source_id(text)


def target(text: str | None) -> TargetId | None:
    """Read a target id, or raise ``InvalidIdentifier``."""
    from penstock.identity import ids

    return None if text is None else ids.target_id(text)
