"""Queries: what only looks."""
