"""Commands: what changes the registry."""
