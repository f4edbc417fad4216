"""What the search index files rows under: 64-bit hashes of equal attributes and of words.

Two terms may have one hash; whoever looks something up checks what it finds against the row itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from penstock.registry.attributes import plain
from penstock.registry.matching import texts_in, words_in

LONGEST_WORD = 100
"""Characters of a word that the index tells apart."""


@lru_cache(maxsize=200_000)
def word_term(tenant: str, kind: str, word: str) -> int:
    """Return the term of a word in rows of a tenant and kind."""
    return _hashed(tenant, kind, "w", word[:LONGEST_WORD])


def equality_term(tenant: str, kind: str, name: str, value: Any) -> int | None:
    """Return the term of an attribute that is, or holds, a scalar; None where the index does not know of it."""
    match value:
        case bool():
            said = f"b{value}"
        case float() if value.is_integer():
            said = f"n{int(value)}"
        case int() | float():
            said = f"n{value}"
        case str():
            said = f"s{value}"
        case _:
            return None
    return _hashed(tenant, kind, "=", name, said)


def _hashed(*parts: str) -> int:
    data = "\0".join(f"{len(part)}:{part}" for part in parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def terms_of(
    tenant: str, kind: str, keys: Iterator[str] | tuple[str, ...], state: Mapping[str, Any]
) -> tuple[set[int], set[str]]:
    """Return the terms of a row, and the words among them."""
    attributes = plain(state)
    terms = set()
    for name, value in attributes.items():
        for scalar in value if isinstance(value, list) else (value,):
            term = equality_term(tenant, kind, name, scalar)
            if term is not None:
                terms.add(term)
    words = {word[:LONGEST_WORD] for word in words_in([*keys, *texts_in(attributes)])}
    terms |= {word_term(tenant, kind, word) for word in words}
    return terms, words
