"""What each keyword about numbers, texts and sizes needs to be known, to be sure that it holds."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, Final

from penstock.registry.cases import Case, Fact

_SIZES: Final = {
    "string": ("minLength", "maxLength", "characters"),
    "array": ("minItems", "maxItems", "items"),
    "object": ("minProperties", "maxProperties", "names"),
}

Unproven = tuple[str, str]
"""A keyword, and what speaks against it."""


def unproven_numbers(case: Case, wide: Fact) -> Iterator[Unproven]:
    """Yield what a schema says of numbers and the case does not make sure."""
    low, low_out = case.lower()
    high, high_out = case.upper()
    if "minimum" in wide and not low >= wide["minimum"]:
        yield (
            "minimum",
            f"{{wide}} takes no number below {wide['minimum']}, and {{narrow}} may hold one",
        )
    if "exclusiveMinimum" in wide and not (low, low_out) >= (wide["exclusiveMinimum"], True):
        least = wide["exclusiveMinimum"]
        yield (
            "exclusiveMinimum",
            f"{{wide}} takes only numbers above {least}, and {{narrow}} may hold another",
        )
    if "maximum" in wide and not high <= wide["maximum"]:
        yield (
            "maximum",
            f"{{wide}} takes no number above {wide['maximum']}, and {{narrow}} may hold one",
        )
    if "exclusiveMaximum" in wide:
        most = wide["exclusiveMaximum"]
        if not (high < most or (high == most and high_out)):
            yield (
                "exclusiveMaximum",
                f"{{wide}} takes only numbers below {most}, and {{narrow}} may hold another",
            )
    if "multipleOf" in wide and not _multiple(case, wide["multipleOf"]):
        step = wide["multipleOf"]
        yield (
            "multipleOf",
            f"{{wide}} takes only multiples of {step}, and {{narrow}} may hold another number",
        )


def _multiple(case: Case, step: Any) -> bool:
    known = [Fraction(str(each)) for each in case.values_of("multipleOf")]
    if case.integral:
        known.append(Fraction(1))
    return any((each / Fraction(str(step))).denominator == 1 for each in known)


def unproven_texts(case: Case, wide: Fact) -> Iterator[Unproven]:
    """Yield what a schema says of texts and the case does not make sure."""
    for keyword in ("pattern", "format"):
        if keyword in wide and wide[keyword] not in case.values_of(keyword):
            yield (
                keyword,
                f"{{wide}} asks for the {keyword} {wide[keyword]!r}, and {{narrow}} does not",
            )


def unproven_sizes(wide: Fact, kind: str, least: Any, most: Any) -> Iterator[Unproven]:
    """Yield what a schema says of sizes, where values are known to have ``least`` to ``most`` of something."""
    at_least, at_most, what = _SIZES[kind]
    if at_least in wide and least < wide[at_least]:
        yield (
            at_least,
            f"{{wide}} asks for {wide[at_least]} {what} at least, and {{narrow}} may hold fewer",
        )
    if at_most in wide and most > wide[at_most]:
        yield (
            at_most,
            f"{{wide}} takes {wide[at_most]} {what} at most, and {{narrow}} may hold more",
        )
