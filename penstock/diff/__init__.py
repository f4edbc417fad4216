"""Differences: which keys changed (over indexes), and which fields (over the rows of what changed)."""
