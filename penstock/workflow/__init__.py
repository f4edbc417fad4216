"""Workflows, their tasks, and the workers that run them: statuses, moves and who is given what."""
