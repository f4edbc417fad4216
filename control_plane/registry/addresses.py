"""Where things are below the API's root, as its server and its client write it."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from penstock.registry.events import API_SOURCE

API = "/registry/v1"
SESSION_COOKIE = "penstock_session"
"""The cookie of a page's session."""


def entity_path(type_name: str, key: str, *, source: str = API_SOURCE) -> str:
    """Return the path of an entity, whose key keeps its slashes."""
    return f"/entities/{_segment(type_name)}/{key_path(key)}{_query(source)}"


def key_path(key: str) -> str:
    """Return a key as the end of a path."""
    return "/".join(_segment(part) for part in key.split("/"))


def relationship_path(
    type_name: str, from_key: str, to_key: str, *, source: str = API_SOURCE
) -> str:
    """Return the path of a relationship, whose ends are in its query: either may hold slashes."""
    return f"/relationships/{_segment(type_name)}{_query(source, from_key=from_key, to_key=to_key)}"


def schema_path(schema_id: str) -> str:
    """Return the path of a schema."""
    return f"/schemas/{_segment(schema_id)}"


def relationship_type_path(name: str) -> str:
    """Return the path of a relationship type."""
    return f"/relationship-types/{_segment(name)}"


def _query(source: str, **others: str) -> str:
    parts = {**others, **({} if source == API_SOURCE else {"source": source})}
    return f"?{urlencode(parts, quote_via=quote)}" if parts else ""


def _segment(part: str) -> str:
    """Return one segment of a path; dots alone would be taken for steps up and down."""
    return part.replace(".", "%2E") if part in {".", ".."} else quote(part, safe="")
