"""Who may do what in the registry: roles, tenants, and API tokens of which only a digest is kept.

A token reads ``pst_<id>_<secret>``. The id finds its record; the secret, 256 random bits, is compared as a SHA-256. A
hash that is slow on purpose would add nothing: there is no dictionary of such secrets to try.
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

_TOKEN = re.compile(r"pst_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
_NOBODY = hashlib.sha256(b"nobody has this token").digest()


class Role(StrEnum):
    """What a caller may do; each may do all that those before it may."""

    READER = "reader"
    """Look at everything of the tenant."""
    WRITER = "writer"
    """Write entities and relationships, propose and attest."""
    SCHEMA_ADMIN = "schema_admin"
    """Declare and change schemas and relationship types."""
    ADMIN = "admin"
    """All of that, and tokens."""

    def includes(self, needed: Role) -> bool:
        """Say whether one who has this role may do what ``needed`` is needed for."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


@dataclass(frozen=True, kw_only=True, slots=True)
class Principal:
    """A caller whose word has been checked."""

    tenant_id: TenantId
    role: Role
    actor: str
    """The name that goes into events and the audit log."""
    caller_id: str
    """What limits are counted by: a token's id, or an issuer's subject."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Token:
    """An API token as it is kept: everything but its secret."""

    token_id: str
    tenant_id: TenantId
    role: Role
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


def parse_token(text: str) -> Presented | None:
    """Read a token's text; None for what is no token."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else Presented(token_id=match[1], secret=match[2])


def mint_token(
    *,
    tenant_id: TenantId,
    role: Role,
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
    return f"pst_{token_id}_{secret}", kept


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
