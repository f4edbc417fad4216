"""Targets: what operations are applied to."""
