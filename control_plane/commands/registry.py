"""``penstock registry``: the registry as a product of its own."""

from __future__ import annotations

from typing import Annotated

import typer

from control_plane.commands import registry_log
from control_plane.commands.tokens import registry_tokens, token_commands

app = typer.Typer(help="The registry of schemas and entities.", no_args_is_help=True)
app.add_typer(
    token_commands(
        registry_tokens,
        whose="the registry's",
        roles="`reader`, `writer`, `schema_admin` or `admin`.",
        lowest="reader",
        opens="Whose registry it opens.",
    ),
    name="token",
)
app.add_typer(registry_log.projections_app, name="projections")
app.command("verify")(registry_log.verify)


@app.command("serve")
def serve(
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 8484,
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
    """Serve the registry's REST API and pages until Ctrl-C."""
    from control_plane.registry.opening import serve as run
    from resources.settings import Settings

    run(Settings.from_env(), host=host, port=port, behind=behind)
