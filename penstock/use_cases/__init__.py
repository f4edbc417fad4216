"""Use cases: what the platform does, one function each, over ports."""
