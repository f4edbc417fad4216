"""The control plane's tokens in the control database."""

from __future__ import annotations

from penstock.access.control import CONTROL, ControlRole
from resources.control_db.token_store import TokenStore, token_table

control_token = token_table("control_token", ControlRole)


class SqlControlTokens(TokenStore):
    """Tokens that open the control plane."""

    realm = CONTROL
    roles = ControlRole
    table = control_token
    of_all = True
