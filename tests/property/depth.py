"""How far properties are searched: a little in every run, far where a person asks for it."""

from __future__ import annotations

from hypothesis import settings

_FURTHER = 20


def examples(few: int) -> int:
    """Return how many examples to try: ``few``, or twenty times as many with the profile ``explore``."""
    return few * _FURTHER if settings.get_current_profile_name() == "explore" else few
