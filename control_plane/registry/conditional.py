"""Conditions on versions: ``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110), over a stream's version tag."""

from __future__ import annotations

import re
from dataclasses import dataclass

from control_plane.web.problem_responses import invalid
from penstock.registry.problems import ProblemError

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_LIST = re.compile(rf"\s*{_TAG.pattern}\s*(?:,\s*{_TAG.pattern}\s*)*", re.VERBOSE)
NEVER = b"\0"
"""An expected version that nothing has: a tag that is not one of ours."""


def etag(version_tag: bytes) -> str:
    """Return the ETag of a version."""
    return f'"{version_tag.hex()}"'


@dataclass(frozen=True, kw_only=True, slots=True)
class IfMatch:
    """What a caller expects to be there."""

    anything: bool = False
    """``*``: whatever is there, but something."""
    tag: bytes | None = None
    """None where nothing was said."""


def if_match(header: str | None) -> IfMatch:
    """Read ``If-Match``; raises a problem for what is no entity tag, or for several."""
    if header is None:
        return IfMatch()
    if header.strip() == "*":
        return IfMatch(anything=True)
    tags = _tags(header, "If-Match")
    if len(tags) > 1:
        raise _bad("If-Match", "names several versions: name the one that was seen")
    weak, text = tags[0]
    return IfMatch(tag=NEVER if weak else _bytes(text))


def none_match(header: str | None, version_tag: bytes | None) -> bool:
    """Say whether ``If-None-Match`` names what is there, so that it need not be sent again."""
    if header is None or version_tag is None:
        return False
    if header.strip() == "*":
        return True
    return version_tag.hex() in {text for _, text in _tags(header, "If-None-Match")}


def only_if_absent(header: str | None) -> bool:
    """Say whether ``If-None-Match: *`` asks that there be nothing yet; a tag there means nothing to a write."""
    if header is None:
        return False
    if header.strip() != "*":
        raise _bad("If-None-Match", "can only be * here: it is done if there is nothing yet")
    return True


def _tags(header: str, name: str) -> list[tuple[bool, str]]:
    if not _LIST.fullmatch(header):
        raise _bad(name, 'is no entity tag: send it as it came, "..." with its quotes')
    return [(bool(weak), text) for weak, text in _TAG.findall(header)]


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return NEVER


def _bad(name: str, what: str) -> Exception:
    message = f"{name} {what}"
    return invalid(message, ProblemError(path=f"/header/{name}", rule="pattern", message=message))
