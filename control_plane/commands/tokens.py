"""``penstock token`` and ``penstock registry token``: who may ask the control plane, and the registry, over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from control_plane import showing
from control_plane.showing import AsJson, By

if TYPE_CHECKING:
    from rich.console import RenderableType

    from penstock.access.tokens import Rank, Token
    from penstock.identity.ids import TenantId
    from penstock.use_cases.access_tokens import NewToken
    from resources.control_db.token_store import TokenStore

Tenant = Annotated[
    str | None, typer.Option("--tenant", help="Only this tenant's.", metavar="TENANT")
]
Name = Annotated[
    str, typer.Argument(help="Whose it is: the actor of what is done with it.", metavar="NAME")
]
Days = Annotated[int, typer.Option(help="Until it expires; 0 for never.", min=0)]
Why = Annotated[
    str | None, typer.Option("--reason", help="Why; kept in the audit log.", metavar="WHY")
]
Kind = Callable[[], "type[TokenStore]"]
"""Returns the tokens that are meant: imported where it is used."""


def registry_tokens() -> type[TokenStore]:
    """Return the registry's tokens."""
    from resources.registry.tokens import SqlTokens

    return SqlTokens


def control_tokens() -> type[TokenStore]:
    """Return the control plane's tokens."""
    from resources.control_db.control_tokens import SqlControlTokens

    return SqlControlTokens


def token_commands(kind: Kind, *, whose: str, roles: str, lowest: str, opens: str) -> typer.Typer:
    """Return the commands on one kind of tokens; ``whose`` and the others go into their help."""
    app = typer.Typer(help=f"Make, list and revoke {whose} API tokens.", no_args_is_help=True)

    @app.command("create")
    def create(
        name: Name,
        role: str = typer.Option(lowest, help=roles, metavar="ROLE"),
        tenant: str = typer.Option("default", help=opens, metavar="TENANT"),
        days: Days = 90,
        by: By = None,
        as_json: AsJson = False,
    ) -> None:
        """Make a token, and print it: this once, for only its digest is kept."""
        _create(kind, name, role, tenant, days, by, as_json)

    @app.command("list")
    def list_(tenant: Tenant = None, as_json: AsJson = False) -> None:
        """List tokens, oldest first, with when each was last used."""
        with _tokens(kind) as tokens:
            found = tokens.list_tokens(None if tenant is None else _tenant(kind, tenant))
            command = tokens.realm.command
        answer = {"tokens": [_shown(token) for token in found]}
        showing.show(answer, as_json, lambda: _listed(found, command))

    @app.command("revoke")
    def revoke(
        token_id: Annotated[
            str, typer.Argument(help="Its id, as `list` has it.", metavar="TOKEN_ID")
        ],
        by: By = None,
        reason: Why = None,
        as_json: AsJson = False,
    ) -> None:
        """Revoke a token: its next request is refused."""
        from penstock.use_cases.access_tokens import revoke_token
        from resources.clock import SystemClock

        with _tokens(kind) as tokens:
            signed = showing.signed(by, reason)
            revoked = revoke_token(tokens, token_id, by=signed, now=SystemClock().now())
        showing.show(_shown(revoked), as_json, lambda: _listed([revoked], ""))

    return app


def _create(
    kind: Kind, name: str, role: str, tenant: str, days: int, by: str | None, as_json: bool
) -> None:
    import datetime

    from penstock.use_cases.access_tokens import create_token
    from resources.clock import SystemClock

    with _tokens(kind) as tokens:
        made = create_token(
            tokens,
            tenant=_tenant(kind, tenant),
            role=_role(kind, role),
            name=name,
            lifetime=datetime.timedelta(days=days) if days else None,
            by=showing.signed(by, None),
            now=SystemClock().now(),
        )
    showing.show({"text": made.text, **_shown(made.token)}, as_json, lambda: _made(made))


def _tenant(kind: Kind, text: str) -> TenantId:
    from penstock.access.tokens import EVERY_TENANT
    from penstock.identity import ids

    return EVERY_TENANT if text == EVERY_TENANT and kind().of_all else ids.tenant_id(text)


@contextmanager
def _tokens(kind: Kind) -> Iterator[TokenStore]:
    """Open the control database, which a first token may well be the first thing in."""
    from resources.control_db.schema import upgrade
    from resources.settings import Settings

    settings = Settings.from_env()
    settings.home.mkdir(parents=True, exist_ok=True)
    upgrade(settings.control_url)
    tokens = kind()(settings.control_url)
    try:
        yield tokens
    finally:
        tokens.close()


def _role(kind: Kind, text: str) -> Rank:
    from penstock.errors import InvalidIdentifier

    roles = kind().roles
    try:
        return roles(text)
    except ValueError:
        raise InvalidIdentifier(
            f"role {text!r} is none of {', '.join(roles)}: give one of these"
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
        f"{token.role} at {_where(token)}, {until}; its id is {token.token_id}. "
        "Keep the text above: it is not shown again."
    )


def _where(token: Token) -> str:
    from penstock.access.tokens import EVERY_TENANT

    every = token.tenant_id == EVERY_TENANT
    return "every tenant" if every else f"tenant {token.tenant_id}"


def _listed(found: Sequence[Token], command: str) -> Iterator[RenderableType]:
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
    yield made if found else f"there are no tokens: `{command} create` makes one"
