"""What has to be known of an OIDC issuer whose tokens the registry takes."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from penstock.registry.access import Role

_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


def _trusted_address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme == "https" and parts.hostname:
        return url
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return url
    raise ValueError("keys are fetched over https:// only, or from this machine itself")


class OidcIssuer(BaseModel):
    """One issuer: what its tokens have to say, and which of their claims become tenant and role."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    """``iss``, to the letter."""
    audience: str = Field(min_length=1)
    """One of ``aud``."""
    jwks_url: Annotated[str, AfterValidator(_trusted_address)]
    """Where the issuer's public keys are."""
    algorithms: tuple[Literal["RS256", "RS512", "PS256", "ES256", "ES384", "EdDSA"], ...] = Field(
        default=("RS256", "ES256"), min_length=1
    )
    """The signatures that are accepted: asymmetric ones alone, since the keys are public."""
    tenant_claim: str = "tenant"
    """A claim, or a path of claims with dots."""
    tenant: str | None = None
    """The tenant of all of this issuer's callers, in place of a claim."""
    role_claim: str = "role"
    """A text or a list of texts; the highest role in it counts."""
    roles: dict[str, Role] = Field(default_factory=lambda: {str(role): role for role in Role})
    """What the claim's texts mean; others mean nothing."""
    name_claim: str = "preferred_username"
    """The actor; ``sub`` where a token has none."""
    leeway_s: float = Field(default=30.0, ge=0, le=300)
    """How far the issuer's clock may be off."""
    keys_kept_s: float = Field(default=3600.0, gt=0)
    """How long fetched keys are used before they are fetched again."""
    fetch_at_most_every_s: float = Field(default=10.0, ge=0)
    """However many tokens name keys that nobody knows."""
