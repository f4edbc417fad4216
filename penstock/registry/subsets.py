"""Whether every value that is valid under one schema is valid under another: proven, or doubted with place and reason.

The proof goes case by case (:mod:`~penstock.registry.cases`) and keyword by keyword. It is sound: where it finds no
doubt, no value is valid under the one and not under the other. It is not complete, and does not guess: what no rule
shows is doubted. Schemas that lead back to themselves are compared by induction over the depth of values: a pair that
is met again below itself holds there if it holds everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from penstock.registry.bisimilar import relabelled
from penstock.registry.cases import (
    Case,
    Fact,
    cases,
    child,
    holds,
    item,
    matches,
    names,
    other_child,
    target,
    text_of,
    validator,
)
from penstock.registry.content_model import NormalSchema
from penstock.registry.dialect import Schema, pointer
from penstock.registry.doubts import CANNOT_BE_PROVEN, Doubt, Words
from penstock.registry.engine_proof import covers
from penstock.registry.keyword_proofs import unproven_numbers, unproven_sizes, unproven_texts
from penstock.registry.violations import described

MAX_STEPS: Final = 20_000
"""Pairs of a case and a schema that are looked at before a proof is given up."""
MAX_DOUBTS: Final = 100
_LOOKING_AHEAD: Final = 4
"""How deep into objects is looked to see that no value can be valid."""


def doubts(narrow: NormalSchema, wide: NormalSchema, words: Words | None = None) -> list[Doubt]:
    """Return where a value that is valid under ``narrow`` may not be under ``wide``; empty if proven that none is."""
    (first, second), definitions = relabelled(narrow, wide)
    prover = _Prover(definitions, words or Words())
    try:
        found = prover.prove(first, second)
    except _GivenUp:
        found = [prover.unproven("the schemas are too large to compare, case by case")]
    if found and covers(second, first, definitions):
        return []
    return list(dict.fromkeys(found))[:MAX_DOUBTS]


CaseKey = tuple[frozenset[bytes], frozenset[int]]


class _GivenUp(Exception):
    """A proof takes too many steps."""


class _Prover:
    """Compares schemas over one set of definitions."""

    def __init__(self, definitions: Mapping[str, Schema], words: Words) -> None:
        self.definitions = definitions
        self.words = words
        self.open: set[tuple[bytes, bytes]] = set()
        """Pairs that are being compared, of values around those that are compared now."""
        self.found: dict[tuple[CaseKey, bytes], tuple[Case, list[Doubt]]] = {}
        """What comparisons came to. They keep their cases, whose keys hold the ids of what is in them."""
        self.without_values: dict[tuple[CaseKey, int], tuple[Case, bool]] = {}
        self.texts: dict[int, tuple[Fact, bytes]] = {}
        self.steps = 0

    def doubt(self, rule: str, says: str, *at: str) -> Doubt:
        """Say what speaks against a proof."""
        return self.words.doubt(pointer(at), rule, says)

    def unproven(self, says: str) -> Doubt:
        """Say that a proof was not found."""
        return self.doubt(CANNOT_BE_PROVEN, says)

    def prove(self, narrow: Schema, wide: Schema, *at: str) -> list[Doubt]:
        """Compare schemas for values of their own: whole ones, or what stands under a name or in an array."""
        if wide is True or narrow is False:
            return []
        pair = (self.text_of(narrow), self.text_of(wide))
        if pair[0] == pair[1] or pair in self.open:
            return []
        known = len(self.found)
        self.open.add(pair)
        doubts_found: dict[Doubt, None] = {}
        for case in cases([narrow], self.definitions):
            doubts_found.update(dict.fromkeys(self.compare(case, wide)))
            if len(doubts_found) > MAX_DOUBTS:
                break
        self.open.discard(pair)
        if doubts_found:
            self._forget_from(known)
        above = pointer(at)
        return [replace(each, path=above + each.path) for each in doubts_found]

    def _forget_from(self, known: int) -> None:
        """Forget what was proven by way of a pair that does not hold; what was known before does not rest on it."""
        for key in list(self.found)[known:]:
            if not self.found[key][1]:
                del self.found[key]

    def compare(self, case: Case, wide: Schema) -> list[Doubt]:
        """Return what speaks against every value of a case being valid under a schema."""
        if wide is True:
            return []
        key = (self.key_of(case), self.text_of(wide))
        if key not in self.found:
            found = list(dict.fromkeys(self._compared(case, wide, key[1])))
            self.found[key] = (case, found)
        return self.found[key][1]

    def _compared(self, case: Case, wide: Schema, text: bytes) -> Iterable[Doubt]:
        self._step()
        if self.impossible(case) or any(self.text_of(fact) == text for fact in case.facts):
            return []
        if isinstance(wide, bool):
            says = "{wide} takes nothing here, and {narrow} may hold something"
            return [self.doubt("additionalProperties", says)]
        constants = case.constants()
        if constants is not None:
            return self._of_constants(case, constants, wide)
        return self._of_kinds(case, wide)

    def key_of(self, case: Case) -> CaseKey:
        """Return what cases of which the same is known have in common."""
        return frozenset(map(self.text_of, case.facts)), case.excluded

    def text_of(self, schema: Schema) -> bytes:
        """Return the text of a schema, which is kept, so that its id stays its own."""
        if isinstance(schema, bool):
            return text_of(schema)
        if id(schema) not in self.texts:
            self.texts[id(schema)] = (schema, text_of(schema))
        return self.texts[id(schema)][1]

    def _step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise _GivenUp

    def _of_constants(self, case: Case, constants: Iterable[Any], wide: Fact) -> Iterator[Doubt]:
        """Try values that are known one by one."""
        engine = validator(wide, self.definitions)
        for value in constants:
            if not all(holds(fact, value, self.definitions) for fact in case.facts):
                continue
            for error in engine.iter_errors(value):
                for each in described(error, lambda _: ""):
                    inner = tuple(str(token) for token in error.instance_path)
                    says = f"{{narrow}} allows a value of which {{wide}} says: {each.message}"
                    yield self.doubt(each.rule, says, *inner)

    def _of_kinds(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        """Go on for each kind of value by itself."""
        kinds = case.kinds()
        taken = Case((wide,))
        if "type" in wide:
            yield from self._of_type(case, taken)
            kinds &= taken.kinds()
        for kind in sorted(kinds):
            one = case if case.kinds() == {kind} else case.also({"type": kind})
            if case.kinds() != {kind} and (constants := one.constants()) is not None:
                yield from self._of_constants(one, constants, wide)
            elif not self.impossible(one):
                yield from self._composed(one, wide)
                yield from self._of_kind(one, kind, wide)

    def _of_type(self, case: Case, taken: Case) -> Iterator[Doubt]:
        extra = [
            kind
            for kind in sorted(case.kinds() - taken.kinds())
            if not self.impossible(case.also({"type": kind}))
        ]
        if extra:
            says = f"{{narrow}} may hold {' or '.join(extra)}, and {{wide}} does not take that"
            yield self.doubt("type", says)
        if taken.integral and "number" in case.kinds() & taken.kinds() and not case.integral:
            yield self.doubt(
                "type",
                "{narrow} may hold a number with a fraction, and {wide} takes integers",
            )

    def _of_kind(self, case: Case, kind: str, wide: Fact) -> Iterator[Doubt]:
        unproven: Iterable[tuple[str, str]] = ()
        if "const" in wide or "enum" in wide:
            rule = "const" if "const" in wide else "enum"
            yield self.doubt(rule, "{wide} takes certain values only, and {narrow} may hold others")
        if kind == "number":
            unproven = unproven_numbers(case, wide)
        elif kind == "string":
            most = case.most("maxLength")
            unproven = [
                *unproven_texts(case, wide),
                *unproven_sizes(wide, kind, case.least("minLength"), most),
            ]
        elif kind == "array":
            yield from self._of_array(case, wide)
        elif kind == "object":
            yield from self._of_object(case, wide)
        for rule, says in unproven:
            yield self.doubt(rule, says)

    def _composed(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        """Compare with what a schema is composed of."""
        if "$ref" in wide:
            yield from self.compare(case, target(wide["$ref"], self.definitions))
        for inner in wide.get("allOf", ()):
            yield from self.compare(case, inner)
        for keyword in ("anyOf", "oneOf"):
            if keyword in wide:
                yield from self._of_alternatives(case, keyword, wide[keyword])
        if "not" in wide and not self.apart(case, wide["not"]):
            yield self.unproven(
                "{wide} excludes something by 'not', and {narrow} is not seen to exclude it"
            )
        if "if" in wide:
            yield from self._of_test(case, wide)
        for name, inner in wide.get("dependentSchemas", {}).items():
            if "object" in case.kinds():
                there = case.also({"type": "object", "required": [name]})
                yield from self.compare(there, inner)

    def _of_alternatives(self, case: Case, keyword: str, branches: list[Schema]) -> Iterator[Doubt]:
        against = {}
        for n, branch in enumerate(branches):
            found = self.compare(case, branch)
            others = branches[:n] + branches[n + 1 :] if keyword == "oneOf" else []
            if not found and all(self.apart(case, other) for other in others):
                return
            against[n] = found
        likely = [n for n, branch in enumerate(branches) if not self.apart(case, branch)]
        if len(likely) == 1 and against[likely[0]]:
            yield from against[likely[0]]
        else:
            says = f"none of the alternatives of '{keyword}' in {{wide}} is seen to take all that {{narrow}} may hold"
            yield self.unproven(says)

    def _of_test(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        test = wide["if"]
        for inside in cases([test], self.definitions):
            yield from self.compare(case.joined(inside), wide.get("then", True))
        if self.compare(case, test):
            yield from self.compare(case.also({"not": test}), wide.get("else", True))

    def apart(self, case: Case, schema: Schema) -> bool:
        """Say whether it is seen that no value of a case is valid under a schema."""
        return all(self.impossible(case.joined(each)) for each in cases([schema], self.definitions))

    def impossible(self, case: Case, ahead: int = _LOOKING_AHEAD) -> bool:
        """Say whether it is seen that a case has no values."""
        key = (self.key_of(case), ahead)
        if key not in self.without_values:
            self._step()
            self.without_values[key] = (case, self._impossible(case, ahead))
        return self.without_values[key][1]

    def _impossible(self, case: Case, ahead: int) -> bool:
        facts = {self.text_of(fact) for fact in case.facts}
        for excluded in case.values_of("not"):
            if excluded in (True, {}) or self.text_of(excluded) in facts:
                return True
        constants = case.constants()
        if constants is not None:
            return not any(
                all(holds(fact, value, self.definitions) for fact in case.facts)
                for value in constants
            )
        kinds = case.kinds()
        return all(self._impossible_kind(case, kind, kinds, ahead) for kind in kinds)

    def _impossible_kind(self, case: Case, kind: str, kinds: set[str], ahead: int) -> bool:
        if len(kinds) > 1:
            return self.impossible(case.also({"type": kind}), ahead)
        if kind == "number":
            (low, low_out), (high, high_out) = case.lower(), case.upper()
            return bool(low > high or (low == high and (low_out or high_out)))
        if kind == "string":
            return bool(case.least("minLength") > case.most("maxLength"))
        if kind == "array":
            return bool(case.least("minItems") > case.most_items())
        if kind == "object" and ahead > 0:
            return any(self._cannot_have(case, name, ahead) for name in sorted(case.required()))
        return False

    def _cannot_have(self, case: Case, name: str, ahead: int) -> bool:
        inner = child(case, name, self.definitions)
        found = cases([inner], self.definitions)
        return all(self.impossible(each, ahead - 1) for each in found)

    def _of_array(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        yield from self._of_items(case, wide)
        for rule, says in unproven_sizes(wide, "array", case.least("minItems"), case.most_items()):
            yield self.doubt(rule, says)
        unique = case.most_items() <= 1 or any(case.values_of("uniqueItems"))
        if wide.get("uniqueItems") and not unique:
            yield self.doubt("uniqueItems", "{wide} takes no item twice, and {narrow} may hold one")
        yield from self._of_contains(case, wide)

    def _of_items(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        prefix: list[Schema] = wide.get("prefixItems", [])
        known = [len(each) for each in case.values_of("prefixItems")]
        rest = wide.get("items", True)
        if "items" not in wide and "unevaluatedItems" in wide:
            rest = wide[
                "unevaluatedItems"
            ]  # the strictest that it can mean: nothing composed has evaluated any
        listed = max([len(prefix), *known])
        for n in range(listed):
            inner = prefix[n] if n < len(prefix) else rest
            yield from self.prove(item(case, n), inner, str(n))
        yield from self.prove(item(case, listed), rest, "*")

    def _of_contains(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        if "contains" not in wide:
            return
        said = {
            (text_of(each["contains"]), each.get("minContains", 1), each.get("maxContains"))
            for each in case.facts
            if "contains" in each
        }
        if (text_of(wide["contains"]), wide.get("minContains", 1), wide.get("maxContains")) in said:
            return
        if wide.get("minContains", 1) == 0 and "maxContains" not in wide:
            return
        yield self.doubt(
            "contains",
            "{wide} asks for items of a kind, and {narrow} does not ask for the same",
        )

    def _of_object(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        for name in sorted(set(wide.get("required", ())) - case.required()):
            says = f"{{wide}} requires the name {name!r}, and {{narrow}} may lack it"
            yield self.doubt("required", says, name)
        listed = sorted(names(case, self.definitions) | set(wide.get("properties", ())))
        possible = [name for name in listed if child(case, name, self.definitions) is not False]
        for name in possible:
            yield from self._of_name(case, wide, name)
        others = other_child(case, None, self.definitions)
        yield from self._of_others(case, wide)
        yield from self._of_names(case, wide, possible, others)
        least = max(case.least("minProperties"), len(case.required()))
        most = case.most("maxProperties")
        if others is False:
            most = min(most, len(possible))
        for rule, says in unproven_sizes(wide, "object", least, most):
            yield self.doubt(rule, says)
        yield from self._of_dependents(case, wide, possible)

    def _of_name(self, case: Case, wide: Fact, name: str) -> Iterator[Doubt]:
        """Compare what stands under a name that is listed somewhere."""
        value = child(case, name, self.definitions)
        patterns = wide.get("patternProperties", {})
        held = [wide["properties"][name]] if name in wide.get("properties", ()) else []
        held += [schema for pattern, schema in patterns.items() if matches(pattern, name)]
        for schema in held:
            yield from self.prove(value, schema, name)
        if held:
            return
        rule = "additionalProperties"
        rest: Schema = wide.get(rule, True)
        if rule not in wide and "unevaluatedProperties" in wide:
            rule = "unevaluatedProperties"
            rest = wide[rule]
            there = case.also({"type": "object", "required": [name]})
            if rest is not True and self.evaluated(there, wide, name):
                rest = True
        if rest is False and not self._never(value):
            says = f"{{narrow}} may hold the name {name!r}, and {{wide}} does not declare it"
            yield self.doubt(rule, says, name)
        elif rest is not False:
            yield from self.prove(value, rest, name)

    def _never(self, value: Schema) -> bool:
        return all(self.impossible(each) for each in cases([value], self.definitions))

    def _of_others(self, case: Case, wide: Fact) -> Iterator[Doubt]:
        """Compare what stands under names that nothing lists."""
        for pattern, schema in wide.get("patternProperties", {}).items():
            yield from self.prove(other_child(case, pattern, self.definitions), schema, "*")
        rule = "additionalProperties"
        rest: Schema = wide.get(rule, True)
        if rule not in wide and "unevaluatedProperties" in wide:
            rule = "unevaluatedProperties"
            rest = True if self.evaluated(case, wide, None) else wide[rule]
        value = self._not_in_patterns(case, wide)
        if rest is False and not self._never(value):
            says = "{narrow} may hold names that {wide} does not declare"
            yield self.doubt(rule, says, "*")
        elif rest is not False:
            yield from self.prove(value, rest, "*")

    def _not_in_patterns(self, case: Case, wide: Fact) -> Schema:
        """Return what stands under names that nothing lists and that match no pattern of a schema."""
        own = wide.get("patternProperties", {})
        facts = tuple(
            {
                **fact,
                "patternProperties": {
                    p: s for p, s in fact["patternProperties"].items() if p not in own
                },
            }
            if "patternProperties" in fact and "unevaluatedProperties" not in fact
            else fact
            for fact in case.facts
        )
        return other_child(Case(facts, case.excluded), None, self.definitions)

    def evaluated(self, case: Case, wide: Schema, name: str | None) -> bool:
        """Say whether a schema that holds is sure to evaluate a name, or for None any that nothing lists."""
        if isinstance(wide, bool):
            return False
        if "additionalProperties" in wide or (name is not None and self._declares(wide, name)):
            return True
        inner = [target(wide["$ref"], self.definitions)] if "$ref" in wide else []
        inner += wide.get("allOf", ())
        for key in ("anyOf", "oneOf"):
            inner += [each for each in wide.get(key, ()) if not self.compare(case, each)]
        inner += [
            schema
            for key, schema in wide.get("dependentSchemas", {}).items()
            if key in case.required()
        ]
        if any(self._passes_on(case, each, name) for each in inner):
            return True
        return "if" in wide and self._evaluated_by_test(case, wide, name)

    def _passes_on(self, case: Case, schema: Schema, name: str | None) -> bool:
        if not isinstance(schema, bool) and "unevaluatedProperties" in schema:
            return True
        return self.evaluated(case, schema, name)

    def _evaluated_by_test(self, case: Case, wide: Fact, name: str | None) -> bool:
        then, other = wide.get("then", True), wide.get("else", True)
        met = any(self._passes_on(case, each, name) for each in (wide["if"], then))
        if not self.compare(case, wide["if"]):
            return met
        unmet = self._passes_on(case, other, name)
        if self.apart(case, wide["if"]):
            return unmet
        return met and unmet

    @staticmethod
    def _declares(wide: Fact, name: str) -> bool:
        patterns = wide.get("patternProperties", ())
        return name in wide.get("properties", ()) or any(matches(each, name) for each in patterns)

    def _of_names(
        self, case: Case, wide: Fact, possible: list[str], others: Schema
    ) -> Iterator[Doubt]:
        if "propertyNames" not in wide:
            return
        for name in possible:
            if not holds(wide["propertyNames"], name, self.definitions):
                says = f"{{narrow}} may hold the name {name!r}, and {{wide}} takes no such name"
                yield self.doubt("propertyNames", says, name)
        if others is False:
            return
        known = [{"type": "string"}, *case.values_of("propertyNames")]
        for each in cases(known, self.definitions):
            for found in self.compare(each, wide["propertyNames"]):
                yield replace(found, path="/*" + found.path)

    def _of_dependents(self, case: Case, wide: Fact, possible: list[str]) -> Iterator[Doubt]:
        for name, needed in wide.get("dependentRequired", {}).items():
            known = case.required().union(
                *(each.get(name, ()) for each in case.values_of("dependentRequired"))
            )
            free = name in possible or (
                name not in names(case, self.definitions)
                and child(case, name, self.definitions) is not False
            )
            for missing in sorted(set(needed) - known - {name}) if free else ():
                says = f"{{wide}} requires the name {missing!r} beside {name!r}, and {{narrow}} may lack it"
                yield self.doubt("dependentRequired", says, missing)
