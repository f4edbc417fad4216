"""Who may do what in the control plane."""

from __future__ import annotations

from penstock.access.tokens import Rank, Realm

CONTROL = Realm(prefix="pct", name="control", command="penstock token")


class ControlRole(Rank):
    """What a caller may do; each may do all that those before it may."""

    VIEWER = "viewer"
    """Look at everything of the tenant."""
    OPERATOR = "operator"
    """Decide, mend, pause, put in order."""
    ADMIN = "admin"
    """All of that, and tokens, destinations and rules."""
