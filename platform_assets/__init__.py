"""Dagster's view of Penstock. Open ``definitions.py`` first."""
