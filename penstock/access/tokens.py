"""Tokens: who shows one is let in as whom it was made for.

A token reads ``<realm>_<id>_<secret>``. The id finds its record; the secret, 256 random bits, is compared as a
SHA-256. A hash that is slow on purpose would add nothing: there is no dictionary of such secrets to try.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from penstock.identity.ids import TenantId

SECRET_BYTES = 32
ID_BYTES = 8
USE_NOTED_EVERY = timedelta(minutes=1)
"""A token's last use is written down at most so often: reads stay reads."""
EVERY_TENANT = TenantId("*")
"""In place of a tenant: all of them, for those who run the platform."""

_TOKEN = re.compile(r"([a-z]{3})_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"nobody has this token").digest()


class Rank(StrEnum):
    """Roles of one realm; each may do all that those before it may."""

    def includes(self, needed: Rank) -> bool:
        """Say whether one who has this role may do what ``needed`` is needed for."""
        # Each request asks: going through an enumeration's members takes as long as finding its route.
        ranks = type(self)._member_names_
        return ranks.index(self.name) >= ranks.index(needed.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class Realm:
    """What a kind of tokens opens."""

    prefix: str
    """Three letters that its tokens begin with."""
    name: str
    """As acts on its tokens are called: ``<name>_token.create``."""
    command: str
    """The command that makes, lists and revokes its tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """A caller whose word has been checked."""

    tenant_id: TenantId
    """:data:`EVERY_TENANT` for one who may see all."""
    role: Rank
    actor: str
    """The name that goes into events and the audit log."""
    caller_id: str
    """What limits are counted by: a token's id, or an issuer's subject."""

    @property
    def only_tenant(self) -> TenantId | None:
        """The one tenant whose things the caller may see; None for all of them."""
        return None if self.tenant_id == EVERY_TENANT else self.tenant_id

    def sees(self, tenant: TenantId) -> bool:
        """Say whether what belongs to a tenant is there for the caller."""
        return self.tenant_id in {tenant, EVERY_TENANT}


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """An API token as it is kept: everything but its secret."""

    token_id: str
    tenant_id: TenantId
    role: Rank
    name: str
    """Whose it is: the actor of what is done with it."""
    secret_digest: bytes
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    """From this moment on it is refused; None for never."""
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    last_used_at: datetime | None = None
    """The last use that was noted: within a minute of the last one."""

    def stands(self, now: datetime) -> bool:
        """Say whether it has neither expired nor been revoked."""
        expired = self.expires_at is not None and self.expires_at <= now
        return self.revoked_at is None and not expired

    def use_is_to_be_noted(self, now: datetime) -> bool:
        """Say whether its last use was noted long enough ago to note this one."""
        return self.last_used_at is None or now - self.last_used_at >= USE_NOTED_EVERY

    def principal(self) -> Principal:
        """Return the caller that it speaks for."""
        return Principal(
            tenant_id=self.tenant_id, role=self.role, actor=self.name, caller_id=self.token_id
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Presented:
    """What a caller has shown: the id and the secret in a token's text."""

    token_id: str
    secret: str

    def __repr__(self) -> str:
        return f"Presented(token_id={self.token_id!r})"


def parse_token(text: str, realm: Realm) -> Presented | None:
    """Read a token's text; None for what is no token of this realm."""
    match = _TOKEN.fullmatch(text)
    if match is None or match[1] != realm.prefix:
        return None
    return Presented(token_id=match[2], secret=match[3])


def mint_token(
    *,
    realm: Realm,
    tenant_id: TenantId,
    role: Rank,
    name: str,
    created_by: str,
    now: datetime,
    expires_at: datetime | None,
    random_bytes: Callable[[int], bytes],
) -> tuple[str, Token]:
    """Make a token; returns its text, which is not kept anywhere, and what is kept."""
    token_id = random_bytes(ID_BYTES).hex()
    secret = base64.urlsafe_b64encode(random_bytes(SECRET_BYTES)).rstrip(b"=").decode()
    kept = Token(
        token_id=token_id,
        tenant_id=tenant_id,
        role=role,
        name=name,
        secret_digest=digest_of(secret),
        created_at=now,
        created_by=created_by,
        expires_at=expires_at,
    )
    return f"{realm.prefix}_{token_id}_{secret}", kept


def digest_of(secret: str) -> bytes:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).digest()


def admitted(presented: Presented, kept: Token | None, now: datetime) -> Principal | None:
    """Return the caller whom a token speaks for, or None.

    An id that nobody has costs the same comparison as one with the wrong secret, and nothing says which it was.
    """
    expected = _NOBODY if kept is None else kept.secret_digest
    right = hmac.compare_digest(digest_of(presented.secret), expected)
    if kept is None or not right or not kept.stands(now):
        return None
    return kept.principal()
