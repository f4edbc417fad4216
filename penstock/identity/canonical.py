"""The canonical text of attributes: one value, one text, on every machine and in every release.

The specification is ``docs/reference/canonical_encoding.md``. In short: JSON with object keys sorted
by their UTF-8 bytes, no white space, strings escaped only where JSON demands it, integers in full, floats
by their shortest digits, and everything that JSON has no word for as an object with one ``$`` key:

=============================  =============================================================
value                          text
=============================  =============================================================
integer beyond 64 bits         ``{"$int":"18446744073709551616"}``
NaN, infinities                ``{"$float":"nan"}``, ``"inf"``, ``"-inf"``
-0.0                           ``0.0``: the two compare equal everywhere
decimal                        ``{"$decimal":"1.5"}``, scale dropped: 1.50 is 1.5
date                           ``{"$date":"2026-11-20"}``
aware timestamp                ``{"$timestamp":"2026-11-20T19:24:14.5Z"}``, in UTC, to the ns
naive timestamp                ``{"$datetime":"2026-11-20T19:24:14"}``, another thing than an aware one
time of day                    ``{"$time":"19:24:14.5"}``
bytes                          ``{"$bytes":"<base64>"}``
a key that begins with ``$``   the key with one more ``$`` in front
=============================  =============================================================

There are two implementations on purpose. :func:`reference_text` is the specification as plain code,
slow and obvious. :func:`canonical_text` gives the same text through orjson, some 20 times faster, and
hands whatever orjson could get wrong to the reference. A property test holds them equal.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any
from uuid import UUID

import numpy as np
import orjson

from penstock.errors import NotCanonical

CANONICAL_VERSION = 1
MAX_DEPTH = 64
MAX_TEXT_BYTES = 16 * 1024 * 1024

_OPTIONS = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1


def canonical_text(attributes: Mapping[str, Any]) -> bytes:
    """Return the canonical UTF-8 text of one attributes object.

    Raises :class:`NotCanonical`, which names the path, for a value outside the value model, for
    nesting deeper than ``MAX_DEPTH`` and for a text over ``MAX_TEXT_BYTES``.
    """
    text = _fast_text(attributes)
    if text is None:
        text = reference_text(attributes)
    if len(text) > MAX_TEXT_BYTES:
        raise NotCanonical(_too_large(attributes, len(text)))
    return text


def _fast_text(attributes: Mapping[str, Any]) -> bytes | None:
    """Return orjson's text where it is surely the canonical one, else None.

    orjson writes NaN as ``null``, keeps the sign of zero, and knows nothing of ``$`` keys; each leaves
    a trace in the text that is cheaper to look for than the values are to walk: a ``"$`` too many, for one.
    """
    if type(attributes) is not dict or not _FLOATS_AGREE:
        return None
    tags = 0

    def tagged(value: object) -> orjson.Fragment:
        nonlocal tags
        tags += 1
        return orjson.Fragment(_TAGGED[type(value)](value))

    try:
        text = orjson.dumps(attributes, tagged, _OPTIONS)
    except TypeError:  # of orjson itself, or around whatever ``tagged`` raised
        return None
    if text.count(b'"$') != tags or b"-0.0" in text:
        return None
    if b"null" in text and _holds_nonfinite(attributes):
        return None
    if text.count(b"{") + text.count(b"[") > MAX_DEPTH:
        return None
    return text


def _holds_nonfinite(value: object) -> bool:
    kind = type(value)
    if kind is float:
        return not math.isfinite(value)  # type: ignore[arg-type]
    if kind is dict:
        return any(map(_holds_nonfinite, value.values()))  # type: ignore[attr-defined]
    if kind is list or kind is tuple:
        return any(map(_holds_nonfinite, value))  # type: ignore[call-overload]
    return isinstance(value, Enum) and _holds_nonfinite(value.value)


def reference_text(attributes: Mapping[str, Any]) -> bytes:
    """Return the canonical text by the specification, step by step."""
    if not isinstance(attributes, Mapping):
        raise NotCanonical(
            f"attributes are a {type(attributes).__name__}; pass an object (a dict with text keys)"
        )
    pieces: list[str] = []
    _write_object(attributes, pieces, "$", 1)
    try:
        return "".join(pieces).encode()
    except UnicodeEncodeError as error:
        raise NotCanonical(
            f"attributes hold a lone surrogate ({error.object[error.start : error.end]!r}), "
            "which no UTF-8 text can carry: decode the value with errors='replace' at the source"
        ) from error


def _write(value: Any, out: list[str], path: str, depth: int) -> None:  # noqa: PLR0912
    if depth > MAX_DEPTH:
        raise NotCanonical(f"{path} is nested deeper than {MAX_DEPTH} levels: flatten it")
    if isinstance(value, np.generic) and not isinstance(value, np.datetime64):
        value = value.item()
    match value:
        case None:
            out.append("null")
        case Enum():
            _write(value.value, out, path, depth)
        case bool():
            out.append("true" if value else "false")
        case int():
            out.append(_int_text(int(value)))
        case float():
            out.append(_float_text(float(value)))
        case str():
            out.append(_string_text(str.__str__(value)))
        case UUID():
            out.append(_string_text(str(value)))
        case Decimal():
            out.append(_tagged("decimal", _decimal_text(value, path)))
        case datetime():
            out.append(_datetime_text(value, path))
        case date():
            out.append(_tagged("date", value.isoformat()))
        case time():
            out.append(_time_text(value, path))
        case bytes() | bytearray() | memoryview():
            out.append(_tagged("bytes", base64.b64encode(bytes(value)).decode()))
        case Mapping():
            _write_object(value, out, path, depth + 1)
        case list() | tuple():
            _write_list(value, out, path, depth + 1)
        case set() | frozenset():
            raise NotCanonical(f"{path} is a set, which has no order: pass sorted(...) instead")
        case _:
            raise NotCanonical(
                f"{path} is a {type(value).__name__}, which has no canonical encoding: pass text, a "
                "number, a Decimal, a date or datetime, bytes, None, a list or a dict"
            )


def _write_object(value: Mapping[Any, Any], out: list[str], path: str, depth: int) -> None:
    for key in value:
        if not isinstance(key, str):
            raise NotCanonical(f"{path} has the key {key!r}, which is not text")
    out.append("{")
    escaped = {escaped_key(str.__str__(key)): key for key in value}
    for n, key in enumerate(sorted(escaped, key=_utf8)):
        out.append("," if n else "")
        out.append(_string_text(key))
        out.append(":")
        _write(value[escaped[key]], out, f"{path}.{escaped[key]}", depth)
    out.append("}")


def escaped_key(key: str) -> str:
    """Return a key as it is written: one more ``$`` in front if it begins with one."""
    return "$" + key if key.startswith("$") else key


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _write_list(value: list[Any] | tuple[Any, ...], out: list[str], path: str, depth: int) -> None:
    out.append("[")
    for n, item in enumerate(value):
        out.append("," if n else "")
        _write(item, out, f"{path}[{n}]", depth)
    out.append("]")


def _tagged(tag: str, text: str) -> str:
    return f'{{"${tag}":"{text}"}}'


_ESCAPES = {ord('"'): '\\"', ord("\\"): "\\\\"}
_ESCAPES |= {n: f"\\u{n:04x}" for n in range(0x20)}
_ESCAPES |= {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}


def _string_text(text: str) -> str:
    return f'"{text.translate(_ESCAPES)}"'


def _int_text(value: int) -> str:
    if _INT64_MIN <= value <= _UINT64_MAX:
        return str(value)
    return _tagged("int", str(value))


def _float_text(value: float) -> str:
    """Shortest digits that read back as the same double; an exponent below 1e-5 and from 1e16 on."""
    if math.isnan(value):
        return _tagged("float", "nan")
    if math.isinf(value):
        return _tagged("float", "inf" if value > 0 else "-inf")
    if value == 0:
        return "0.0"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    assert isinstance(exponent, int)
    mantissa = "".join(map(str, digits)).rstrip("0") or "0"
    point = len(digits) + exponent  # value = 0.<digits> * 10**point
    head = "-" if sign else ""
    if not -5 < point <= 16:
        fraction = mantissa[1:]
        power = point - 1
        lead = f"{mantissa[0]}.{fraction}" if fraction else mantissa[0]
        return f"{head}{lead}e{'+' if power >= 0 else '-'}{abs(power)}"
    if point <= 0:
        return f"{head}0.{'0' * -point}{mantissa}"
    if len(mantissa) <= point:
        return f"{head}{mantissa.ljust(point, '0')}.0"
    return f"{head}{mantissa[:point]}.{mantissa[point:]}"


def _decimal_text(value: Decimal, path: str) -> str:
    if not value.is_finite():
        if value.is_snan():
            raise NotCanonical(f"{path} is a signalling NaN: pass None or a quiet NaN")
        return "nan" if value.is_nan() else ("inf" if value > 0 else "-inf")
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    exponent += len(text) - len(stripped)
    if not stripped:
        return "0"
    head = "-" if sign else ""
    if exponent >= 0:
        return (
            f"{head}{stripped}{'0' * exponent}"
            if exponent <= 40
            else f"{head}{stripped}e{exponent}"
        )
    if exponent < -1000:
        return f"{head}{stripped}e{exponent}"
    padded = stripped.rjust(-exponent + 1, "0")
    return f"{head}{padded[:exponent]}.{padded[exponent:]}"


def _fraction(microsecond: int, nanosecond: int) -> str:
    digits = f"{microsecond:06d}{nanosecond:03d}".rstrip("0")
    return f".{digits}" if digits else ""


def _datetime_text(value: datetime, path: str) -> str:
    if not value == value:  # noqa: PLR0124  NaT, which pandas counts among the datetimes
        raise NotCanonical(f"{path} is NaT: pass None")
    fraction = _fraction(value.microsecond, getattr(value, "nanosecond", 0))
    if value.tzinfo is None or value.utcoffset() is None:
        return _tagged("datetime", _clock(value) + fraction)
    try:
        return _tagged("timestamp", _clock(value.astimezone(UTC)) + fraction + "Z")
    except OverflowError as error:
        raise NotCanonical(
            f"{path} is {value.isoformat()}, which lies outside the years 1 to 9999 in UTC: pass it as text"
        ) from error


def _clock(value: datetime) -> str:
    return (
        f"{value.year:04d}-{value.month:02d}-{value.day:02d}"
        f"T{value.hour:02d}:{value.minute:02d}:{value.second:02d}"
    )


def _time_text(value: time, path: str) -> str:
    if value.tzinfo is not None:
        raise NotCanonical(f"{path} is a time of day with a zone: pass a datetime or drop the zone")
    text = f"{value.hour:02d}:{value.minute:02d}:{value.second:02d}"
    return _tagged("time", text + _fraction(value.microsecond, 0))


def _too_large(attributes: Mapping[str, Any], size_bytes: int) -> str:
    sizes = {key: len(canonical_text_of(value)) for key, value in attributes.items()}
    field = max(sizes, key=lambda key: sizes[key])
    return (
        f"attributes take {size_bytes:,} bytes, over the limit of {MAX_TEXT_BYTES:,}; the field "
        f"{field!r} alone takes {sizes[field]:,}: store it elsewhere and keep a reference"
    )


def canonical_text_of(value: Any) -> bytes:
    """Return the canonical text of any one value, without the size limit."""
    pieces: list[str] = []
    _write(value, pieces, "$", 0)
    return "".join(pieces).encode("utf-8", "replace")


_FLOAT_SAMPLES = (
    1.0,
    -1.5,
    0.1,
    1e15,
    1e16,
    1.5e16,
    1e-4,
    1e-5,
    1.5e-5,
    9.9e-6,
    1e-7,
    1e22,
    5e-324,
)
_FLOATS_AGREE = all(orjson.dumps(x).decode() == _float_text(x) for x in _FLOAT_SAMPLES)
"""False when a release of orjson writes floats another way; the reference then does all the work."""


_DECODERS: Mapping[str, Callable[[str], Any]] = {
    "$int": int,
    "$float": float,
    "$decimal": Decimal,
    "$date": date.fromisoformat,
    "$time": time.fromisoformat,
    "$bytes": partial(base64.b64decode, validate=True),
}


_LONG_DIGITS = re.compile(rb"\d{17}")


_TAGGED: Mapping[type, Callable[[Any], str]] = {
    datetime: lambda value: _datetime_text(value, "$"),
    date: lambda value: _tagged("date", value.isoformat()),
    time: lambda value: _time_text(value, "$"),
    Decimal: lambda value: _tagged("decimal", _decimal_text(value, "$")),
    bytes: lambda value: _tagged("bytes", base64.b64encode(value).decode()),
}
"""What orjson hands back to be written, by its exact type; anything else goes to the reference as a whole."""


def value_of(text: bytes | str) -> dict[str, Any]:
    """Return the attributes that a canonical text stands for.

    Timestamps come back as their text where they are finer than a microsecond, as aware or naive
    datetimes otherwise.
    """
    return _object(_decode(orjson.loads(text), _decode_moment))


def canonical_json(text: bytes) -> bytes:
    """Return the canonical form of any JSON object: what others write into a batch's ``attributes``.

    Objects with one ``$`` key that the value model knows mean what they mean there. Raises
    :class:`NotCanonical` for what is not JSON, not an object, or outside the value model.
    """
    try:
        # orjson reads an integer beyond 64 bits as a float; the standard library keeps it.
        parsed = (
            json.loads(text, parse_constant=_no_constant) if _LONG_DIGITS.search(text) else None
        )
        decoded = _decode(orjson.loads(text) if parsed is None else parsed, _decode_fine_moment)
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise NotCanonical(
            f"attributes are not JSON of the value model ({error}): {_shown(text)}"
        ) from error
    return canonical_text(_object(decoded))


def _shown(text: bytes) -> str:
    return repr(text[:80].decode("utf-8", "replace")) + ("..." if len(text) > 80 else "")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON: write it as the object that the value model has for it")


def _object(decoded: Any) -> dict[str, Any]:
    if not isinstance(decoded, dict):
        raise NotCanonical("an attributes text is not a JSON object")
    return decoded


def _decode(value: Any, moment: Callable[[str], Any]) -> Any:
    if isinstance(value, list):
        return [_decode(item, moment) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, inner), *_ = value.items()
        if key in _DECODERS and isinstance(inner, str):
            return _DECODERS[key](inner)
        if key in {"$timestamp", "$datetime"} and isinstance(inner, str):
            return moment(inner)
    return {
        (key[1:] if key.startswith("$$") else key): _decode(inner, moment)
        for key, inner in value.items()
    }


def _decode_moment(text: str) -> datetime | str:
    _, _, fraction = text.rstrip("Z").partition(".")
    return text if len(fraction) > 6 else datetime.fromisoformat(text)


class _FineMoment(datetime):
    """A moment to the nanosecond, which Python's own has no room for."""

    nanosecond: int = 0


def _decode_fine_moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    _, _, fraction = text.partition(".")
    digits = fraction[: len(fraction) - len(fraction.lstrip("0123456789"))]
    if len(digits) <= 6:
        return moment
    fine = _FineMoment.fromisoformat(text)
    fine.nanosecond = int(digits[6:9].ljust(3, "0"))
    return fine
