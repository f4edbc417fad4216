"""Execution: plans applied to targets, chunk by chunk."""
