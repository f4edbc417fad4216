"""Object keys: which are accepted, so that no key leaves its store or means two things."""

from __future__ import annotations

from penstock.errors import InvalidIdentifier

MAX_KEY_BYTES = 1024
_FORBIDDEN = {"", ".", ".."}


def checked_key(key: str) -> str:
    """Return a key of plain ``/``-separated segments, or raise :class:`InvalidIdentifier`."""
    if any(segment in _FORBIDDEN for segment in key.split("/")) or "\0" in key or "\\" in key:
        raise InvalidIdentifier(
            f"object key {key!r} is refused: use segments joined by /, none of them empty, . or .., "
            "without backslashes"
        )
    if len(_utf8(key)) > MAX_KEY_BYTES:
        raise InvalidIdentifier(
            f"object key {key[:60]!r}... is over {MAX_KEY_BYTES} bytes: shorten it"
        )
    return key


def checked_folder(prefix: str) -> str:
    """Return a prefix that is empty or ends in ``/``, or raise :class:`InvalidIdentifier`."""
    if prefix and not prefix.endswith("/"):
        raise InvalidIdentifier(f"folder {prefix!r} does not end in /: add it")
    if prefix:
        checked_key(prefix[:-1])
    return prefix


def _utf8(key: str) -> bytes:
    try:
        return key.encode()
    except UnicodeEncodeError as error:
        raise InvalidIdentifier(f"object key {key!r} is not valid Unicode: {error}") from error
