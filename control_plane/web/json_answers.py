"""Answers in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


def json_response(
    document: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON."""
    return Response(
        orjson.dumps(document),
        status_code=status,
        media_type="application/json",
        headers=dict(headers or {}),
    )
