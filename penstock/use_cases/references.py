"""References: what will exist once a plan has been executed, and what would be left pointing at nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.batch.index import KeyedRows, find_rows
from penstock.batch.manifest import Manifest, Mode
from penstock.batch.rows import Kind
from penstock.batch.scope import ScopeMap
from penstock.identity.digest import U64
from penstock.identity.keys import entity_index_keys, relationship_index_keys
from penstock.plan.containment import all_nested, cyclic_nodes
from penstock.ports.rows import BatchRows
from penstock.use_cases.known_rows import KnownRows

Held = Mapping[tuple[Kind, str], str]
Mask = npt.NDArray[np.bool_]


class AfterState:
    """The entities and relationships that will exist after a plan, without building them."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        rows: Mapping[Kind, BatchRows],
        known: KnownRows,
        scopes: ScopeMap,
        held: Held,
        may_stay: Callable[[str, str], bool] = lambda _type, _key: False,
    ) -> None:
        self._manifest = manifest
        self._rows = rows
        self._known = known
        self._scopes = scopes
        self._held = held
        self._may_stay = may_stay
        self._full = manifest.mode is Mode.FULL
        external = [t.name for t in manifest.relationship_types if t.external_ends]
        self._external = frozenset(external)

    def missing_ends(self, type_name: str, rows: pa.Table) -> list[str | None]:
        """Return, per relationship, the first end that will not exist, or None."""
        if type_name in self._external or not len(rows):
            return [None] * len(rows)
        keys = pc.unique(pa.chunked_array([*rows["from_key"].chunks, *rows["to_key"].chunks]))
        exists = self.entities_exist(keys)
        if exists.all():
            return [None] * len(rows)
        missing = set(keys.filter(pa.array(~exists)).to_pylist())
        return [
            start if start in missing else end if end in missing else None
            for start, end in zip(
                rows["from_key"].to_pylist(), rows["to_key"].to_pylist(), strict=True
            )
        ]

    def entities_exist(self, keys: pa.Array) -> Mask:
        """Say of each entity key whether it will exist, under whatever type."""
        key_hi, key_lo = entity_index_keys(keys)
        exists, tombstoned = self._landed(Kind.ENTITY, key_hi, key_lo)
        rest = np.flatnonzero(~exists & ~tombstoned)
        types = self._known.find_type(Kind.ENTITY, key_hi[rest], key_lo[rest])
        texts = keys.take(pa.array(rest)).to_pylist()
        for at, type_name, key in zip(rest.tolist(), types, texts, strict=True):
            exists[at] = type_name is not None and not self._goes(Kind.ENTITY, type_name, key)
        return exists

    def _landed(self, kind: Kind, key_hi: U64, key_lo: U64) -> tuple[Mask, Mask]:
        """Say of each key whether the batch has it, and whether it has a tombstone for it."""
        here, gone = np.zeros(len(key_hi), bool), np.zeros(len(key_hi), bool)
        for section in self._rows[kind].index.sections.values():
            at = find_rows(section, key_hi, key_lo)
            dead = _tombstones(section, at) if not self._full else np.zeros(len(at), bool)
            here |= (at >= 0) & ~dead
            if (kind, section.type_name) not in self._held:
                gone |= dead
        return here, gone

    def _goes(self, kind: Kind, type_name: str, key: str) -> bool:
        """Whether a known row that the batch does not have is deleted by its absence."""
        if not self._full or (kind, type_name) in self._held or self._may_stay(type_name, key):
            return False
        return bool(self._scopes.complete_mask(kind, type_name, [key])[0])

    # What still points at entities that are to be deleted ---------------------------------------------------

    def referrers(self, deleted: pa.Array) -> dict[str, str]:
        """Return, per entity key of ``deleted`` that some known relationship goes on to end at, one such relationship.

        Relationships that are only now landed do not count: where an end of theirs goes, they are refused.
        """
        found: dict[str, str] = {}
        for type_name, rows in self.remaining_relationships():
            if type_name in self._external:
                continue
            ends_there = pc.or_(
                *(pc.is_in(rows[column], value_set=deleted) for column in ("from_key", "to_key"))
            )
            for start, end in self._known_ends(type_name, rows.filter(ends_there)):
                text = f"({start}, {type_name}, {end})"
                found.setdefault(start, text)
                found.setdefault(end, text)
        return found

    def _known_ends(self, type_name: str, rows: pa.Table) -> Iterator[tuple[str, str]]:
        if not len(rows):
            return
        starts, ends = rows["from_key"].combine_chunks(), rows["to_key"].combine_chunks()
        key_hi, key_lo = relationship_index_keys(starts, ends)
        known = self._known.view.find(Kind.RELATIONSHIP, type_name, key_hi, key_lo) >= 0
        for at in np.flatnonzero(known).tolist():
            yield starts[at].as_py(), ends[at].as_py()

    def remaining_relationships(self) -> Iterator[tuple[str, pa.Table]]:
        """Yield the relationships that will exist, by the chunk: those landed, then those only known."""
        rows = self._rows[Kind.RELATIONSHIP]
        for section in rows.index.sections.values():
            stop = section.start + section.rows
            for chunk in rows.scan(["from_key", "to_key", "tombstone"], section.start, stop):
                yield section.type_name, chunk.filter(pc.invert(chunk["tombstone"]))
        for type_name in self._known.view.types(Kind.RELATIONSHIP):
            yield from self._only_known(type_name)

    def _only_known(self, type_name: str) -> Iterator[tuple[str, pa.Table]]:
        kind = Kind.RELATIONSHIP
        absence_deletes = self._full and (kind, type_name) not in self._held
        if absence_deletes and self._scopes.wholly_complete(kind, type_name):
            return
        section = self._rows[kind].index.sections.get(type_name)
        for key_hi, key_lo, rows in self._known.scan(kind, type_name):
            landed = (
                find_rows(section, key_hi, key_lo) >= 0 if section else np.zeros(len(rows), bool)
            )
            stays = ~landed
            if absence_deletes:
                keys = rows["from_key"].to_pylist()
                stays &= ~self._scopes.complete_mask(kind, type_name, keys)
            yield type_name, rows.filter(pa.array(stays))

    # Containment --------------------------------------------------------------------------------------------

    def containment_cycles(self) -> list[frozenset[str]]:
        """Return the groups of entities that would contain each other."""
        types = {t.name for t in self._manifest.relationship_types if t.containment}
        edges = [
            rows.select(["from_key", "to_key"])
            for type_name, rows in self.remaining_relationships()
            if type_name in types
        ]
        if all(all_nested(rows["from_key"], rows["to_key"]) for rows in edges):
            return []
        table = pa.concat_tables(edges).combine_chunks()
        names = pa.chunked_array([*table["from_key"].chunks, *table["to_key"].chunks])
        encoded = names.combine_chunks().dictionary_encode()
        pairs = encoded.indices.to_numpy().astype(np.int64).reshape(2, -1).T
        groups = cyclic_nodes(np.ascontiguousarray(pairs))
        texts = encoded.dictionary
        return [frozenset(texts[node].as_py() for node in group) for group in groups]


def _tombstones(section: KeyedRows, at: np.ndarray) -> Mask:
    """Say which rows, given by position or -1, are tombstones."""
    dead = np.zeros(len(at), bool)
    if (hits := np.flatnonzero(at >= 0)).size:
        hash_hi, hash_lo = section.read(("hash_hi", "hash_lo"), 0, section.rows)
        dead[hits] = (hash_hi[at[hits]] == 0) & (hash_lo[at[hits]] == 0)
    return dead
