"""Qualified names: how the names that a source gives to its things become entity keys.

A key is made of segments joined by ``/``; its last-``/`` prefix is the container. Names are quoted
so that different lists of names never give the same key, whatever characters they hold::

    qualified_name("shop", "main", "orders")             shop/main/orders
    qualified_name("shop", "main", "in/out")             shop/main/in%2Fout
    facet("shop/main/orders", "index", "by_day")         shop/main/orders/index:by_day
    unnamed_facet("shop/main/orders", "index", "a", "b") shop/main/orders/index::a,b

A facet lives beside the children of its container without sharing their names: a column of
``orders`` may be called ``by_day`` too.
"""

from __future__ import annotations

import re

_QUOTED = re.compile("[\x00-\x1f\x7f%/:,\ud800-\udfff]")
_WHOLE = {"": "%-", ".": "%2E", "..": "%2E%2E"}


def quoted(name: str) -> str:
    """Return a name as one segment of a key, injectively.

    Percent-encoded are ``%``, ``/``, ``:``, ``,``, control characters and lone surrogates; ``.``
    and ``..`` are encoded whole, and the empty name is ``%-``.
    """
    return _WHOLE.get(name) or _QUOTED.sub(_percent, name)


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def qualified_name(*names: str) -> str:
    """Return the key of the thing with these names, outermost first."""
    return "/".join(map(quoted, names))


def within(container_key: str, *names: str) -> str:
    """Return the key of the thing with these names, outermost first, below a container."""
    return "/".join([container_key, *map(quoted, names)])


def facet(container_key: str, word: str, *names: str) -> str:
    """Return the key of a facet of a container: a thing of another kind than its children."""
    return f"{container_key}/{word}:{','.join(map(quoted, names))}"


def unnamed_facet(container_key: str, word: str, *names: str) -> str:
    """Return the key of a facet without a name of its own, known by others: its columns."""
    return f"{container_key}/{word}::{','.join(map(quoted, names))}"
