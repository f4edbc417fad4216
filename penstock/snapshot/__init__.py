"""Snapshots: what a target is known to hold from a source."""
