"""Bearer tokens of an OIDC issuer: signed by its keys, meant for us, and read for tenant and role."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from control_plane.registry.auth.issuer_keys import IssuerKeys
from penstock.access.tokens import Principal
from penstock.errors import InvalidIdentifier
from penstock.identity.ids import TenantId, tenant_id
from penstock.ports.clock import Clock
from penstock.registry.access import Role
from penstock.use_cases.acts import LONGEST_ACTOR
from resources.registry.api_settings import OidcIssuer

MOST_TOKEN_CHARACTERS = 16_384


@dataclass(frozen=True, kw_only=True)
class OidcBearer:
    """Reads the tokens of one issuer."""

    issuer: OidcIssuer
    keys: IssuerKeys
    clock: Clock

    @classmethod
    def of(cls, issuer: OidcIssuer, clock: Clock) -> OidcBearer:
        """Return a reader that has fetched nothing yet."""
        keys = IssuerKeys(
            url=issuer.jwks_url,
            clock=clock,
            keep_s=issuer.keys_kept_s,
            fetch_at_most_every_s=issuer.fetch_at_most_every_s,
        )
        return cls(issuer=issuer, keys=keys, clock=clock)

    def admit(self, text: str) -> Principal | None:
        """Return the caller whom a token speaks for, or None, for whatever reason.

        Raises :class:`~control_plane.registry.auth.issuer_keys.IssuerUnreachable`.
        """
        if len(text) > MOST_TOKEN_CHARACTERS:
            return None
        try:
            claims = self._checked(text)
        except jwt.PyJWTError:
            return None
        return None if claims is None else self._principal(claims)

    def _checked(self, text: str) -> Mapping[str, Any] | None:
        header = jwt.get_unverified_header(text)
        key_id, algorithm = header.get("kid"), header.get("alg")
        if not isinstance(key_id, str) or algorithm not in self.issuer.algorithms:
            return None
        key = self.keys.find(key_id)
        if key is None or key.algorithm_name != algorithm:
            return None
        claims: dict[str, Any] = jwt.decode(
            text,
            key,
            algorithms=[algorithm],
            audience=self.issuer.audience,
            issuer=self.issuer.issuer,
            leeway=self.issuer.leeway_s,
            # Moments are compared with our own clock below, which tests decide.
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        return claims if self._stands(claims) else None

    def _stands(self, claims: Mapping[str, Any]) -> bool:
        now, leeway = self.clock.now().timestamp(), self.issuer.leeway_s
        expires, begins = claims["exp"], claims.get("nbf", 0)
        if not all(isinstance(each, int | float) for each in (expires, begins)):
            return False
        return bool(begins - leeway <= now < expires + leeway)

    def _principal(self, claims: Mapping[str, Any]) -> Principal | None:
        tenant, role = self._tenant(claims), self._role(claims)
        subject = claims["sub"]
        if tenant is None or role is None or not isinstance(subject, str) or not subject:
            return None
        name = _claim(claims, self.issuer.name_claim)
        actor = name if isinstance(name, str) and name.strip() and name.isprintable() else subject
        if not actor.isprintable() or len(actor) > LONGEST_ACTOR:
            return None
        return Principal(
            tenant_id=tenant, role=role, actor=actor, caller_id=f"{self.issuer.issuer} {subject}"
        )

    def _tenant(self, claims: Mapping[str, Any]) -> TenantId | None:
        found = self.issuer.tenant or _claim(claims, self.issuer.tenant_claim)
        try:
            return tenant_id(found) if isinstance(found, str) else None
        except InvalidIdentifier:
            return None

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        found = _claim(claims, self.issuer.role_claim)
        texts = found if isinstance(found, list) else [found]
        held = {self.issuer.roles.get(text) for text in texts if isinstance(text, str)}
        return next((role for role in reversed(Role) if role in held), None)


def _claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim by its name, which may hold dots and slashes, or by a path of names."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return found
