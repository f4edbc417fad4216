"""``penstock registry``: the registry as a product of its own."""

from __future__ import annotations

import typer

from control_plane.commands import registry_log, registry_tokens

app = typer.Typer(help="The registry of schemas and entities.", no_args_is_help=True)
app.add_typer(registry_tokens.app, name="token")
app.add_typer(registry_log.projections_app, name="projections")
app.command("verify")(registry_log.verify)
