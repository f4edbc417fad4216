"""``penstock registry token``: who may ask the registry over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.access.tokens import Token
    from penstock.registry.access import Role
    from penstock.use_cases.access_tokens import NewToken
    from resources.registry.tokens import SqlTokens

app = typer.Typer(help="Make, list and revoke the registry's API tokens.", no_args_is_help=True)
Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Only this tenant's.", metavar="TENANT")
]


@app.command("create")
def create(
    name: Annotated[
        str, typer.Argument(help="Whose it is: the actor of what is done with it.", metavar="NAME")
    ],
    role: Annotated[
        str, typer.Option(help="`reader`, `writer`, `schema_admin` or `admin`.", metavar="ROLE")
    ] = "reader",
    tenant: Annotated[
        str, typer.Option(help="Whose registry it opens.", metavar="TENANT")
    ] = "default",
    days: Annotated[int, typer.Option(help="Until it expires; 0 for never.", min=0)] = 90,
    by: By = None,
    as_json: AsJson = False,
) -> None:
    """Make a token, and print it: this once, for only its digest is kept."""
    import datetime

    from penstock.identity import ids
    from penstock.use_cases.access_tokens import create_token
    from resources.clock import SystemClock

    with _tokens() as tokens:
        made = create_token(
            tokens,
            tenant=ids.tenant_id(tenant),
            role=_role(role),
            name=name,
            lifetime=datetime.timedelta(days=days) if days else None,
            by=showing.signed(by, None),
            now=SystemClock().now(),
        )
    showing.show({"text": made.text, **_shown(made.token)}, as_json, lambda: _made(made))


@app.command("list")
def list_(tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List tokens, oldest first, with when each was last used."""
    from penstock.identity import ids

    with _tokens() as tokens:
        found = tokens.list_tokens(None if tenant is None else ids.tenant_id(tenant))
    answer = {"tokens": [_shown(token) for token in found]}
    showing.show(answer, as_json, lambda: _listed(found))


@app.command("revoke")
def revoke(
    token_id: Annotated[str, typer.Argument(help="Its id, as `list` has it.", metavar="TOKEN_ID")],
    by: By = None,
    reason: Annotated[
        str | None, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a token: its next request is refused."""
    from penstock.use_cases.access_tokens import revoke_token
    from resources.clock import SystemClock

    with _tokens() as tokens:
        signed = showing.signed(by, reason)
        revoked = revoke_token(tokens, token_id, by=signed, now=SystemClock().now())
    showing.show(_shown(revoked), as_json, lambda: _listed([revoked]))


@contextmanager
def _tokens() -> Iterator[SqlTokens]:
    """Open the control database, which a first token may well be the first thing in."""
    from resources.control_db.schema import upgrade
    from resources.registry.tokens import SqlTokens
    from resources.settings import Settings

    settings = Settings.from_env()
    settings.home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.control_url)
    tokens = SqlTokens(settings.control_url)
    try:
        yield tokens
    finally:
        tokens.close()


def _role(text: str) -> Role:
    from penstock.errors import InvalidIdentifier
    from penstock.registry.access import Role

    try:
        return Role(text)
    except ValueError:
        raise InvalidIdentifier(
            f"role {text!r} is none of {', '.join(Role)}: give one of these"
        ) from None


def _shown(token: Token) -> dict[str, object]:
    """Return what may be seen of a token; its digest is nobody's business."""
    from dataclasses import asdict

    return {name: value for name, value in asdict(token).items() if name != "secret_digest"}


def _made(made: NewToken) -> Iterator[RenderableType]:
    yield made.text
    token = made.token
    until = f"until {token.expires_at:%Y-%m-%d %H:%M} UTC" if token.expires_at else "for ever"
    yield (
        f"{token.role} at tenant {token.tenant_id}, {until}; its id is {token.token_id}. "
        "Keep the text above: it is not shown again."
    )


def _listed(found: Sequence[Token]) -> Iterator[RenderableType]:
    from control_plane.tables import cell, table

    made = table("tokens", "id", "name", "role", "tenant", "expires", "last used", "revoked")
    for each in found:
        moments = (each.expires_at, each.last_used_at, each.revoked_at)
        made.add_row(
            cell(each.token_id),
            cell(each.name),
            cell(each.role),
            cell(each.tenant_id),
            *(cell(f"{moment:%Y-%m-%d %H:%M}" if moment else "") for moment in moments),
        )
    yield made if found else "there are no tokens: `penstock registry token create` makes one"
