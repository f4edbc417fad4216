"""What the ready sources raise."""

from __future__ import annotations

from penstock.errors import PenstockError


class SourceUnavailable(PenstockError):
    """A source cannot be reached or read at all, so no batch can be made of it."""

    code = "source_unavailable"
