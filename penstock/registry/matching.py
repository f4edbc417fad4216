"""What a search finds: equal attributes, and words in texts and keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from penstock.registry.attributes import plain

_WORD = re.compile(r"[^\W_]+")


def words_in(texts: Iterable[str]) -> Iterator[str]:
    """Yield the words of texts: runs of letters and digits, without regard to case."""
    for text in texts:
        yield from _WORD.findall(text.casefold())


def texts_in(value: Any) -> Iterator[str]:
    """Yield the texts in a plain JSON value, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from texts_in(inner)
    elif isinstance(value, Sequence):
        for inner in value:
            yield from texts_in(inner)


def has_value(value: Any, wanted: Any) -> bool:
    """Say whether a plain value is equal to a scalar, or is a list that holds it; true is not 1."""
    values = value if isinstance(value, list) else [value]
    return any(isinstance(v, bool) == isinstance(wanted, bool) and v == wanted for v in values)


def has_all(
    key: str, state: Mapping[str, Any], equals: Mapping[str, Any], words: Sequence[str]
) -> bool:
    """Say whether a state has all these attributes and words, the last of them as the beginning of one."""
    attributes = plain(state)
    if not all(has_value(attributes.get(name), wanted) for name, wanted in equals.items()):
        return False
    if not words:
        return True
    there = set(words_in([key, *texts_in(attributes)]))
    *whole, last = words
    return all(word in there for word in whole) and any(word.startswith(last) for word in there)
