"""The registry's API tokens in the control database."""

from __future__ import annotations

from penstock.registry.access import REGISTRY, Role
from resources.control_db.token_store import TokenStore, token_table

registry_token = token_table("registry_token", Role)


class SqlTokens(TokenStore):
    """Tokens that open the registry."""

    realm = REGISTRY
    roles = Role
    table = registry_token
