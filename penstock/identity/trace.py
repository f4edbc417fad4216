"""Trace contexts as W3C Trace Context writes them: ``00-<trace id>-<parent id>-<flags>``.

They come from outside: in events, in manifests that others write, in the environment. One that is not as the standard
says is dropped, as it says, and never an error: what it was sent with counts all the same.
"""

from __future__ import annotations

import re

LONGEST_TRACE_PARENT = 55
"""Characters of one as it is kept."""
_LONGEST_READ = 512
"""Of a later version, which may say more behind what this one knows; longer ones are dropped."""
_PARTS = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
_INVALID, _KNOWN, _SAMPLED = "ff", "00", 0x01


def read_trace_parent(value: object) -> str | None:
    """Return a trace context as it is kept, or None if it is none.

    One of a later version is taken as of the version that is known here, with the one flag that this knows.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_READ:
        return None
    found = _PARTS.fullmatch(value)
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == _INVALID or not int(trace, 16) or not int(span, 16):
        return None
    if version == _KNOWN:
        return None if more else value
    return f"{_KNOWN}-{trace}-{span}-{int(flags, 16) & _SAMPLED:02x}"
