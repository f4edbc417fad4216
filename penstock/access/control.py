"""Who may do what in the control plane."""

from __future__ import annotations

from penstock.access.tokens import Rank, Realm

CONTROL = Realm(prefix="pct", name="control", command="penstock token")


class ControlRole(Rank):
    """What a caller may do; each may do all that those before it may, but that a viewer does not work."""

    WORKER = "worker"
    """Pull tasks of the tenant, and report what came of them; nothing else."""
    VIEWER = "viewer"
    """Look at everything of the tenant."""
    OPERATOR = "operator"
    """Decide, mend, pause, put in order."""
    ADMIN = "admin"
    """All of that, and tokens, destinations and rules."""

    def includes(self, needed: Rank) -> bool:
        """Say whether one who has this role may do what ``needed`` is needed for."""
        if needed is ControlRole.WORKER:
            return self is not ControlRole.VIEWER
        return self is not ControlRole.WORKER and super().includes(needed)
