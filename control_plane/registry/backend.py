"""What the registry's interfaces stand on: the use cases' platform, and who may come in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from control_plane.registry.auth.oidc import OidcBearer
from control_plane.web.places import Places
from penstock.access.limits import RequestLimits
from penstock.access.tokens import Principal
from penstock.ports.audit_log import AuditLog
from penstock.ports.registry import LogSignal
from penstock.ports.tokens import Tokens
from penstock.use_cases.access_tokens import admit_token
from penstock.use_cases.registry_platform import RegistryPlatform


@dataclass(frozen=True, kw_only=True)
class Backend:
    """Everything behind one server."""

    platform: RegistryPlatform
    tokens: Tokens
    audit: AuditLog
    signal: LogSignal
    """Wakes the followers of the change feed."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    oidc: OidcBearer | None = None
    heartbeat_s: float = 15.0
    """Seconds after which a follower of the change feed is told that there is nothing new."""
    poll_s: float = 5.0
    """Seconds after which to look for new events on behalf of a follower that nobody has woken."""
    close: Callable[[], None] = lambda: None
    """Let go of what is open."""

    @cached_property
    def streams(self) -> Places:
        """Room for followers of the change feed."""
        return Places(self.limits.streams)

    def admit(self, text: str) -> Principal | None:
        """Return the caller whom a bearer token speaks for, ours or the issuer's."""
        if text.startswith("pst_"):
            return admit_token(self.tokens, text, now=self.platform.clock.now())
        return None if self.oidc is None else self.oidc.admit(text)
