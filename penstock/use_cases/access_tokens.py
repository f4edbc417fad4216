"""API tokens: making, listing and revoking them, and letting in who shows one."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from penstock.access.tokens import (
    Principal,
    Rank,
    Token,
    admitted,
    mint_token,
    parse_token,
)
from penstock.errors import NotFound, PenstockError, Unsigned
from penstock.identity.ids import TenantId
from penstock.ports.tokens import Tokens
from penstock.use_cases.acts import LONGEST_ACTOR, By


@dataclass(frozen=True, kw_only=True, slots=True)
class NewToken:
    """A token that has just been made: the only moment at which its text is there."""

    text: str
    token: Token


def create_token(
    tokens: Tokens,
    *,
    tenant: TenantId,
    role: Rank,
    name: str,
    lifetime: timedelta | None,
    by: By,
    now: datetime,
    random_bytes: Callable[[int], bytes] = secrets.token_bytes,
) -> NewToken:
    """Make a token and keep its digest; raises ``Unsigned`` for one that is nobody's."""
    if not name.strip() or len(name) > LONGEST_ACTOR or not name.isprintable():
        raise Unsigned(
            f"a token has to say whose it is: give a name of 1 to {LONGEST_ACTOR} printable characters"
        )
    if lifetime is not None and lifetime <= timedelta(0):
        raise PenstockError("the token would have expired already: give a lifetime above 0 days")
    text, token = mint_token(
        realm=tokens.realm,
        tenant_id=tenant,
        role=role,
        name=name,
        created_by=by.actor,
        now=now,
        expires_at=None if lifetime is None else now + lifetime,
        random_bytes=random_bytes,
    )
    details = {"tenant": tenant, "role": str(role), "name": name}
    act = by.entry(f"{tokens.realm.name}_token.create", token.token_id, now=now, details=details)
    if not tokens.add_token(token, act=act):
        raise PenstockError(f"token id {token.token_id} is taken: try again")
    return NewToken(text=text, token=token)


def revoke_token(tokens: Tokens, token_id: str, *, by: By, now: datetime) -> Token:
    """Revoke a token from now on; raises ``NotFound`` for an id that no token has."""
    act = by.entry(f"{tokens.realm.name}_token.revoke", token_id, now=now)
    revoked = tokens.revoke_token(token_id, by=by.actor, now=now, act=act)
    if revoked is None:
        raise NotFound(f"there is no token {token_id!r}: `{tokens.realm.command} list` has them")
    return revoked


def admit_token(tokens: Tokens, text: str, *, now: datetime) -> Principal | None:
    """Return the caller whom a token's text speaks for, noting the use; None, for whatever reason, if none."""
    presented = parse_token(text, tokens.realm)
    if presented is None:
        return None
    kept = tokens.get_token(presented.token_id)
    principal = admitted(presented, kept, now)
    if principal is not None and kept is not None and kept.use_is_to_be_noted(now):
        tokens.note_use(kept.token_id, now=now)
    return principal
