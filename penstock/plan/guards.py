"""Guards: checks on a plan that hold back what looks like an accident.

All guards but one see counts, never rows, so that they run before any operation is written; ``protected`` looks at each
delete. What a guard holds stays in the plan with the verdict ``held`` and is never sent; what depends on it is blocked;
everything else goes on.

Each guard is tried on a canary, a made-up disaster, under the very policy that it judges by. One that lets its
canary pass is broken, and then no delete is sent at all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from penstock.batch.guard_policy import GuardPolicy, Limits, Protected
from penstock.batch.rows import Kind

PROTECTED = "protected"
CANARY = "canary"
NEVER_RELEASED = frozenset({PROTECTED, CANARY})
"""Guards whose holds no approval releases."""
_HISTORY_SHARE = {"deletes": 0.01, "updates": 0.05}
"""However quiet the history: changes of this share of the known rows count as having been seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeCounts:
    """What a plan would do to one type."""

    known: int
    """Rows in the snapshot."""
    landed: int
    """Rows in the batch, tombstones included."""
    created: int = 0
    updated: int = 0
    inferred_deletes: int = 0
    tombstoned: int = 0

    @property
    def deletes(self) -> int:
        """Rows that would go, by absence or by tombstone."""
        return self.inferred_deletes + self.tombstoned


@dataclass(frozen=True, kw_only=True, slots=True)
class TypeHistory:
    """The most that any of a source's last batches did to one type."""

    batches: int = 0
    deletes: int = 0
    updates: int = 0


class Verdict(BaseModel):
    """What one guard said."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    guard: str
    passed: bool
    message: str
    held_deletes: tuple[tuple[Kind, str], ...] = ()
    """Types whose deletes are held."""
    held_updates: tuple[tuple[Kind, str], ...] = ()
    """Types whose updates are held."""
    canary: str = "off"
    """``tripped``: the guard works. ``off``: the policy has no such limit. ``passed``: the guard is broken."""


class Hold(BaseModel):
    """What one guard holds of one type, and what stands behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    guard: str
    kind: Kind
    type_name: str
    action: str
    operations: int
    sample: tuple[str, ...]
    """The first keys; a relationship as ``from -> to``."""
    entities_behind: int | None = None
    """Known entities that lie below what is held; None where there are too many to count."""
    relationships_behind: int | None = None
    """Known relationships that end at what is held; None where there are too many to count."""
    releasable: bool = True
    """Whether an approval can release it."""


TypeKey = tuple[Kind, str]
Counts = Mapping[TypeKey, TypeCounts]
History = Mapping[TypeKey, TypeHistory]
_Over = Callable[[Limits, TypeKey, TypeCounts, "_Batch"], str | None]


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """What a guard knows besides the type that it looks at."""

    full: bool
    history: History
    history_min_batches: int
    landed: int
    known: int


@dataclass(frozen=True, kw_only=True)
class _Guard:
    name: str
    over: _Over
    """Says what is wrong with one type, or None."""
    fine: str
    updates: bool = False
    canary: tuple[TypeCounts, TypeHistory] = (
        TypeCounts(known=10**9, landed=0, inferred_deletes=10**9),
        TypeHistory(batches=10**6),
    )


def run_guards(
    policy: GuardPolicy, counts: Counts, *, history: History | None = None, full: bool = True
) -> tuple[Verdict, ...]:
    """Return the verdict of every guard that judges by counts, in a fixed order."""
    verdicts = [_judge(guard, policy, counts, history or {}, full) for guard in _GUARDS]
    broken = [verdict.guard for verdict in verdicts if verdict.canary == "passed"]
    if not broken:
        return tuple(verdicts)
    said = f"guard {', '.join(broken)} let its canary pass: it is broken, so all deletes and updates are held"
    keys = tuple(sorted(counts))
    alarm = Verdict(
        guard=CANARY,
        passed=False,
        message=said,
        held_deletes=keys,
        held_updates=keys,
        canary="passed",
    )
    return (alarm, *verdicts)


def protected_verdict(policy: GuardPolicy, held: int) -> Verdict:
    """Return the verdict of ``protected``, once it is known how many deletes it holds."""
    if not policy.protected:
        return Verdict(guard=PROTECTED, passed=True, message="no entities are protected")
    canary = "tripped" if _protects_canary(policy) else "passed"
    said = f"{held:,} deletes of protected entities are held" if held else "none would be deleted"
    return Verdict(
        guard=PROTECTED, passed=not held and canary == "tripped", message=said, canary=canary
    )


def protects(
    policy: GuardPolicy, entity_type: str, entity_key: str, attributes: Mapping[str, object]
) -> bool:
    """Say whether an entity is never deleted."""
    return any(
        rule.names(entity_type, entity_key)
        and all(attributes.get(name) == value for name, value in rule.attributes.items())
        for rule in policy.protected
    )


def may_protect(policy: GuardPolicy, entity_type: str, entity_key: str) -> bool:
    """Say whether an entity could be protected, its attributes not looked at."""
    return any(rule.names(entity_type, entity_key) for rule in policy.protected)


def _protects_canary(policy: GuardPolicy) -> bool:
    return all(protects(policy, *_named_by(rule), rule.attributes) for rule in policy.protected)


def _named_by(rule: Protected) -> tuple[str, str]:
    """Return a type and a key that a rule's patterns match, if they are plain or have wildcards alone."""
    plain = (
        text.replace("*", "x").replace("?", "x") for text in (rule.entity_type, rule.entity_key)
    )
    names = tuple(plain)
    if not rule.names(*names):  # a pattern with a character set: the rule is taken at its word
        return rule.entity_type, rule.entity_key
    return names[0], names[1]


def held_types(verdicts: Sequence[Verdict]) -> dict[TypeKey, str]:
    """Return, per type whose deletes are held, the guard and its message."""
    return _held(verdicts, lambda verdict: verdict.held_deletes)


def held_update_types(verdicts: Sequence[Verdict]) -> dict[TypeKey, str]:
    """Return, per type whose updates are held, the guard and its message."""
    return _held(verdicts, lambda verdict: verdict.held_updates)


def _held(
    verdicts: Sequence[Verdict], types: Callable[[Verdict], Sequence[TypeKey]]
) -> dict[TypeKey, str]:
    held: dict[TypeKey, str] = {}
    for verdict in verdicts:
        for key in types(verdict):
            held.setdefault(key, f"{verdict.guard}: {verdict.message}")
    return held


def _judge(
    guard: _Guard, policy: GuardPolicy, counts: Counts, history: History, full: bool
) -> Verdict:
    batch = _Batch(
        full=full,
        history=history,
        history_min_batches=policy.history_min_batches,
        landed=sum(c.landed for c in counts.values()),
        known=sum(c.known for c in counts.values()),
    )
    over = {
        key: said
        for key, c in sorted(counts.items())
        if (said := guard.over(policy.limits(key[1]), key, c, batch))
    }
    held = tuple(over)
    verdict = Verdict(
        guard=guard.name,
        passed=not over,
        message="; ".join(list(over.values())[:10]) or guard.fine,
        canary=_canary(guard, policy),
    )
    return verdict.model_copy(update={"held_updates" if guard.updates else "held_deletes": held})


def _canary(guard: _Guard, policy: GuardPolicy) -> str:
    """Try a guard on a disaster, under the limits for all types and under those of each type that has its own."""
    disaster, past = guard.canary
    said = set()
    for name in ("any other", *sorted(policy.types)):
        key, limits = (Kind.ENTITY, name), policy.limits(name)
        batch = _Batch(
            full=True,
            history={key: past},
            history_min_batches=policy.history_min_batches,
            landed=disaster.landed,
            known=disaster.known,
        )
        if guard.over(limits, key, disaster, batch):
            said.add("tripped")
        else:
            said.add("off" if guard.name in _switched_off(limits) else "passed")
    return next(word for word in ("passed", "tripped", "off") if word in said)


def _switched_off(limits: Limits) -> set[str]:
    """Return the guards that some limits leave nothing to do."""
    no_deletes_matter = limits.always_allowed_deletes >= 10**6
    no_updates_matter = limits.always_allowed_updates >= 10**6
    off = {
        "delete_limit": limits.max_deletes is None or limits.max_deletes >= 10**9,
        "delete_share": limits.max_delete_share >= 1 or no_deletes_matter,
        "update_limit": limits.max_updates is None or limits.max_updates >= 10**9,
        "update_share": limits.max_update_share >= 1 or no_updates_matter,
        "delete_history": limits.history_factor is None
        or limits.history_factor >= 1 / _HISTORY_SHARE["deletes"]
        or no_deletes_matter,
        "update_history": limits.history_factor is None
        or limits.history_factor >= 1 / _HISTORY_SHARE["updates"]
        or no_updates_matter,
        "extract_floor": limits.min_extract_share == 0 or no_deletes_matter,
        "empty_extract": no_deletes_matter,
    }
    return {name for name, is_off in off.items() if is_off}


# The guards ----------------------------------------------------------------------------------------------------


def _delete_limit(limits: Limits, key: TypeKey, c: TypeCounts, _batch: _Batch) -> str | None:
    if limits.max_deletes is None or c.deletes <= limits.max_deletes:
        return None
    return f"{_lose(key, c)}: more than {limits.max_deletes:,}, so these deletes are held"


def _delete_share(limits: Limits, key: TypeKey, c: TypeCounts, _batch: _Batch) -> str | None:
    most = max(limits.always_allowed_deletes, limits.max_delete_share * c.known)
    if c.deletes <= most:
        return None
    return f"{_lose(key, c)}: more than {limits.max_delete_share:.0%} of its rows, so these deletes are held"


def _update_limit(limits: Limits, key: TypeKey, c: TypeCounts, _batch: _Batch) -> str | None:
    if limits.max_updates is None or c.updated <= limits.max_updates:
        return None
    return f"{_change(key, c)}: more than {limits.max_updates:,}, so these updates are held"


def _update_share(limits: Limits, key: TypeKey, c: TypeCounts, _batch: _Batch) -> str | None:
    most = max(limits.always_allowed_updates, limits.max_update_share * c.known)
    if c.updated <= most:
        return None
    return f"{_change(key, c)}: more than {limits.max_update_share:.0%} of its rows, so these updates are held"


def _delete_history(limits: Limits, key: TypeKey, c: TypeCounts, batch: _Batch) -> str | None:
    past = batch.history.get(key, TypeHistory())
    if limits.history_factor is None or past.batches < batch.history_min_batches:
        return None
    seen = max(past.deletes, _HISTORY_SHARE["deletes"] * c.known)
    if c.deletes <= max(limits.always_allowed_deletes, limits.history_factor * seen):
        return None
    return (
        f"{_lose(key, c)}: its last {past.batches:,} batches lost at most {past.deletes:,} each, so these "
        "deletes are held"
    )


def _update_history(limits: Limits, key: TypeKey, c: TypeCounts, batch: _Batch) -> str | None:
    past = batch.history.get(key, TypeHistory())
    if limits.history_factor is None or past.batches < batch.history_min_batches:
        return None
    seen = max(past.updates, _HISTORY_SHARE["updates"] * c.known)
    if c.updated <= max(limits.always_allowed_updates, limits.history_factor * seen):
        return None
    return (
        f"{_change(key, c)}: its last {past.batches:,} batches changed at most {past.updates:,} each, so "
        "these updates are held"
    )


def _extract_floor(limits: Limits, key: TypeKey, c: TypeCounts, batch: _Batch) -> str | None:
    """A type that comes back as a fraction of what it was: far likelier a page that was not read than a purge."""
    least = limits.min_extract_share * c.known
    if not batch.full or c.landed >= least or c.deletes <= limits.always_allowed_deletes:
        return None
    return (
        f"{key[1]} ({key[0]}) came back with {c.landed:,} rows while {c.known:,} are known: less than "
        f"{limits.min_extract_share:.0%}, so its {c.deletes:,} deletes are held"
    )


def _empty_extract(limits: Limits, key: TypeKey, c: TypeCounts, batch: _Batch) -> str | None:
    """Nothing landed at all, yet much is known: far likelier an outage than an empty source."""
    if not batch.full or batch.landed or batch.known <= limits.always_allowed_deletes:
        return None
    if not c.deletes:
        return None
    return (
        f"nothing landed while {batch.known:,} rows are known, so all {c.deletes:,} deletes of {key[1]} "
        f"({key[0]}) are held"
    )


def _lose(key: TypeKey, c: TypeCounts) -> str:
    return f"{key[1]} ({key[0]}) would lose {c.deletes:,} of {c.known:,}"


def _change(key: TypeKey, c: TypeCounts) -> str:
    return f"{key[1]} ({key[0]}) would change {c.updated:,} of {c.known:,}"


_UPDATES = (TypeCounts(known=10**9, landed=10**9, updated=10**9), TypeHistory(batches=10**6))
_GUARDS = (
    _Guard(name="delete_limit", over=_delete_limit, fine="no type loses more rows than it may"),
    _Guard(name="delete_share", over=_delete_share, fine="no type loses more than its share"),
    _Guard(
        name="delete_history",
        over=_delete_history,
        fine="no type loses many times what it ever did",
    ),
    _Guard(name="extract_floor", over=_extract_floor, fine="no type came back as a fraction"),
    _Guard(name="empty_extract", over=_empty_extract, fine="the extract did not come back empty"),
    _Guard(
        name="update_limit",
        over=_update_limit,
        fine="no type changes more rows than it may",
        updates=True,
        canary=_UPDATES,
    ),
    _Guard(
        name="update_share",
        over=_update_share,
        fine="no type changes more than its share",
        updates=True,
        canary=_UPDATES,
    ),
    _Guard(
        name="update_history",
        over=_update_history,
        fine="no type changes many times what it ever did",
        updates=True,
        canary=_UPDATES,
    ),
)
GUARD_NAMES = (*(guard.name for guard in _GUARDS), PROTECTED, CANARY)
"""Every guard, in the order of their verdicts."""


def history_of(ledgers: Sequence[Counts]) -> dict[TypeKey, TypeHistory]:
    """Return the most that each type lost and changed in any of some batches, of which each counts for all types."""
    history: dict[TypeKey, TypeHistory] = {}
    for counts in ledgers:
        for key, c in counts.items():
            past = history.get(key, TypeHistory())
            history[key] = replace(
                past,
                batches=past.batches + 1,
                deletes=max(past.deletes, c.deletes),
                updates=max(past.updates, c.updated),
            )
    return history


__all__ = [
    "GUARD_NAMES",
    "GuardPolicy",
    "Hold",
    "TypeCounts",
    "TypeHistory",
    "Verdict",
    "run_guards",
]
