"""What the search index files rows under: 64-bit hashes of equal attributes and of words.

Two terms may have one hash; whoever looks something up checks what it finds against the row itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from penstock.registry.matching import texts_in, words_in

LONGEST_WORD = 100
"""Characters of a word that the index tells apart."""


def word_term(tenant: str, kind: str, word: str) -> int:
    """Return the term of a word in rows of a tenant and kind."""
    return _hashed(_begun(tenant, kind, "w"), word[:LONGEST_WORD])


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
    return _hashed(_begun(tenant, kind, "=", name), said)


@lru_cache(maxsize=10_000)
def _begun(*parts: str) -> Any:
    """Return a hash that has seen what many terms begin with."""
    said = "".join(f"{len(part)}:{part}\0" for part in parts)
    return hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8)


def _hashed(begun: Any, last: str) -> int:
    whole = begun.copy()
    whole.update(f"{len(last)}:{last}".encode("utf-8", "surrogatepass"))
    return int.from_bytes(whole.digest(), "big", signed=True)


class WordTerms(dict[str, int]):
    """The terms of the words in rows of a tenant and kind, as they are asked for."""

    def __init__(self, tenant: str, kind: str) -> None:
        super().__init__()
        self._begun = _begun(tenant, kind, "w")

    def __missing__(self, word: str) -> int:
        term = self[word] = _hashed(self._begun, word)
        return term


def terms_of(
    tenant: str, kind: str, key: str, attributes: Mapping[str, Any], known: WordTerms
) -> tuple[set[int], set[str]]:
    """Return the terms of a row with plain attributes, and the words among them."""
    # Words end at a line's end, so that those of all texts may be looked for at once.
    words = set(words_in(["\n".join([key, *texts_in(attributes)])]))
    if len(max(words, key=len, default="")) > LONGEST_WORD:
        words = {word[:LONGEST_WORD] for word in words}
    terms = set(map(known.__getitem__, words))
    for name, value in attributes.items():
        for scalar in value if isinstance(value, list) else (value,):
            term = equality_term(tenant, kind, name, scalar)
            if term is not None:
                terms.add(term)
    return terms, words
