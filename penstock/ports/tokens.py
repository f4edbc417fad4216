"""API tokens of one realm: kept without their secrets, revoked and never deleted."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from penstock.access.tokens import Realm, Token
from penstock.identity.ids import TenantId
from penstock.ports.audit_log import AuditEntry


class Tokens(Protocol):
    """What is known of tokens."""

    @property
    def realm(self) -> Realm:
        """What they open."""
        ...

    def add_token(self, token: Token, *, act: AuditEntry | None = None) -> bool:
        """Add a token; False, and nothing done, if its id is taken."""
        ...

    def get_token(self, token_id: str) -> Token | None:
        """Return a token."""
        ...

    def list_tokens(self, tenant: TenantId | None = None) -> list[Token]:
        """Return tokens of one tenant or of all, oldest first."""
        ...

    def revoke_token(
        self, token_id: str, *, by: str, now: datetime, act: AuditEntry | None = None
    ) -> Token | None:
        """Revoke a token, and return it; one that is revoked stays as it is, and None is one that is not there."""
        ...

    def note_use(self, token_id: str, *, now: datetime) -> bool:
        """Note that a token is used; False where a use was noted less than a minute ago."""
        ...
