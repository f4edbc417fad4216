"""Who may do what in the registry."""

from __future__ import annotations

from penstock.access.tokens import Rank, Realm

REGISTRY = Realm(prefix="pst", name="registry", command="penstock registry token")


class Role(Rank):
    """What a caller may do; each may do all that those before it may."""

    READER = "reader"
    """Look at everything of the tenant."""
    WRITER = "writer"
    """Write entities and relationships, propose and attest."""
    SCHEMA_ADMIN = "schema_admin"
    """Declare and change schemas and relationship types."""
    ADMIN = "admin"
    """All of that, and tokens."""
