"""Patches of attributes: merge patches (RFC 7396) and lists of operations (RFC 6902), on plain JSON.

A patch is applied to a copy, whole or not at all. Its limits hold before and while it is applied, so that a short
patch cannot grow a value without end (``copy`` of the whole into itself doubles it).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from jsonpatch import JsonPatch, JsonPatchException
from jsonpointer import JsonPointer, JsonPointerException

from penstock.identity.canonical import MAX_DEPTH, MAX_TEXT_BYTES
from penstock.registry.problems import Problem, ProblemError, ProblemKind, json_type

MOST_OPERATIONS = 1_000
_NEEDS: Mapping[str, tuple[str, ...]] = {
    "add": ("value",),
    "remove": (),
    "replace": ("value",),
    "move": ("from",),
    "copy": ("from",),
    "test": ("value",),
}
_POINTERS = ("path", "from")


def merge_patched(attributes: Mapping[str, Any], patch: Any) -> dict[str, Any] | Problem:
    """Return attributes after a merge patch: null removes, objects merge, all else replaces."""
    if not isinstance(patch, Mapping):
        return _failed([_error("", "type", "a merge patch of attributes is an object", patch)])
    if _deeper_than(patch, MAX_DEPTH):
        return _failed([_error("", "maxDepth", f"it is nested deeper than {MAX_DEPTH}", patch)])
    return _merged(attributes, patch)


def _merged(target: Any, patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            merged[name] = _merged(merged.get(name), value)
        else:
            merged[name] = value
    return merged


def json_patched(attributes: Mapping[str, Any], operations: Any) -> dict[str, Any] | Problem:
    """Return attributes after a list of operations, or everything that is wrong with how they are written.

    Where all are well-formed, the first that cannot be applied is named with its path: what follows would be applied
    to something else.
    """
    if errors := _form_errors(operations):
        return _failed(errors)
    patched: Any = copy.deepcopy(dict(attributes))
    added_bytes = 0
    for n, operation in enumerate(operations):
        try:
            added_bytes += _adds(patched, operation)
            if added_bytes > MAX_TEXT_BYTES:
                message = f"the patch adds more than {MAX_TEXT_BYTES:,} bytes"
                return _failed([_at(n, operation, "maxLength", message)])
            patched = _applied(patched, operation)
        except _TestFailed as error:
            return _failed([_at(n, operation, "test", str(error))])
        except (JsonPatchException, JsonPointerException, ValueError, TypeError) as error:
            return _failed([_at(n, operation, "path", str(error))])
        except RecursionError:
            return _failed([_at(n, operation, "maxDepth", "what it leaves is nested too deeply")])
    if not isinstance(patched, dict):
        message = f"the patch leaves {json_type(patched)}, and attributes are an object"
        return _failed([_error("", "type", message, patched)])
    if _deeper_than(patched, MAX_DEPTH):
        message = f"what the patch leaves is nested deeper than {MAX_DEPTH}"
        return _failed([_error("", "maxDepth", message, patched)])
    return patched


class _TestFailed(Exception):
    pass


def _applied(document: Any, operation: Mapping[str, Any]) -> Any:
    if operation["op"] != "test":
        return JsonPatch([operation]).apply(document, in_place=True)
    # The library compares as Python does, for which true is 1.
    found = JsonPointer(operation["path"]).resolve(document)
    if not same_json(found, operation["value"]):
        raise _TestFailed(f"the value there is {_shown(found)}, not {_shown(operation['value'])}")
    return document


def _adds(document: Any, operation: Mapping[str, Any]) -> int:
    """Return how many bytes an operation adds at most; raises for a pointer to nothing and for endless depth."""
    if operation["op"] == "copy":
        value = JsonPointer(operation["from"]).resolve(document)
    elif operation["op"] in {"add", "replace"}:
        value = operation["value"]
    else:
        return 0
    try:
        return len(orjson.dumps(value))
    except TypeError as error:
        if "ecursion" in str(error):
            raise RecursionError from error
        return MAX_DEPTH  # an integer beyond 64 bits: storing it is another's question


def same_json(a: Any, b: Any) -> bool:
    """Say whether two values are equal as JSON: 1 is 1.0, true is not 1, and order counts in arrays only."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_json(a[name], b[name]) for name in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return bool(a == b)


def _form_errors(operations: Any) -> list[ProblemError]:
    if not isinstance(operations, Sequence) or isinstance(operations, str | bytes):
        return [_error("", "type", "a JSON patch is an array of operations", operations)]
    if len(operations) > MOST_OPERATIONS:
        message = f"it has {len(operations):,} operations, over the limit of {MOST_OPERATIONS:,}"
        return [_error("", "maxItems", message, operations)]
    return [error for n, each in enumerate(operations) for error in _operation_errors(n, each)]


def _operation_errors(n: int, operation: Any) -> list[ProblemError]:
    if not isinstance(operation, Mapping):
        return [_error(f"/{n}", "type", f"operation {n} is not an object", operation)]
    op = operation.get("op")
    if not isinstance(op, str) or op not in _NEEDS:
        message = f"operation {n} has op {_shown(op)}: it is one of {', '.join(_NEEDS)}"
        return [_error(f"/{n}/op", "enum", message, op)]
    errors = [
        _error(f"/{n}", "required", f"operation {n} ({op}) has no {name}", operation)
        for name in ("path", *_NEEDS[op])
        if name not in operation
    ]
    wanted = [name for name in _POINTERS if name in ("path", *_NEEDS[op]) and name in operation]
    for name in wanted:
        text = operation[name]
        if (wrong := _pointer_error(text)) is not None:
            message = f"operation {n} ({op}) has {name} {_shown(text)}: {wrong}"
            errors.append(_error(f"/{n}/{name}", "json-pointer", message, text))
    if "value" in operation and _deeper_than(operation["value"], MAX_DEPTH):
        message = f"operation {n} ({op}) has a value nested deeper than {MAX_DEPTH}"
        errors.append(_error(f"/{n}/value", "maxDepth", message, operation["value"]))
    return errors


def _pointer_error(text: Any) -> str | None:
    if not isinstance(text, str):
        return "a JSON pointer is a string"
    try:
        JsonPointer(text)
    except JsonPointerException as error:
        return str(error)
    return None


def _deeper_than(value: Any, depth: int) -> bool:
    """Say whether arrays and objects stand more than ``depth`` within one another, without recursion."""
    level = [value]
    for _ in range(depth):
        inner: list[Any] = []
        for each in level:
            if isinstance(each, Mapping):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        level = [each for each in inner if isinstance(each, Mapping | list)]
        if not level:
            return False
    return True


def _at(n: int, operation: Mapping[str, Any], rule: str, message: str) -> ProblemError:
    where = f"operation {n} ({operation['op']} {operation['path'] or 'the whole'})"
    return ProblemError(path=f"/{n}", rule=rule, message=f"{where}: {message}", value_type="object")


def _error(path: str, rule: str, message: str, value: Any) -> ProblemError:
    return ProblemError(path=path, rule=rule, message=message, value_type=json_type(value))


def _failed(errors: list[ProblemError]) -> Problem:
    first = errors[0].message
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return Problem(
        kind=ProblemKind.PATCH_FAILED,
        detail=f"the patch was not applied: {first}{more}",
        errors=tuple(errors),
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
