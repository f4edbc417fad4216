"""``penstock serve``: the control plane's server, and who may ask it."""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.commands.tokens import control_tokens, token_commands

token_app = token_commands(
    control_tokens,
    whose="the control plane's",
    roles="`worker`, `viewer`, `operator` or `admin`.",
    lowest="viewer",
    opens="Whose things it shows; `*` for those who run the platform.",
)


def serve(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8585,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    behind: Annotated[
        str | None,
        typer.Option(
            "--behind",
            help="Address of a proxy whose word counts on who is calling and whether by TLS.",
            metavar="ADDRESS",
        ),
    ] = None,
) -> None:
    """Serve the control plane, its pages and loops, until Ctrl-C."""
    from control_plane.service.opening import serve as run
    from resources.settings import Settings

    run(Settings.from_env(), host=host, port=port, behind=behind)
