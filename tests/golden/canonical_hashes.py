"""The values behind ``canonical_hashes.json``; ``python -m tests.golden.canonical_hashes`` makes it."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from penstock.batch.keyed import RowKeys
from penstock.batch.rows import SCHEMAS, Kind
from penstock.identity.canonical import canonical_text
from penstock.identity.digest import entity_digest, relationship_digest

PATH = Path(__file__).with_name("canonical_hashes.json")

ENTITIES: list[tuple[str, str, dict[str, Any]]] = [
    ("table", "shop/orders", {}),
    ("table", "shop/orders", {"rows": 1}),
    ("table", "shop/orders", {"rows": 1.0}),
    ("table", "shop/orders", {"rows": None}),
    ("table", "shop", {"rows": None}),
    ("column", "shop/orders/id", {"type": "bigint", "nullable": False, "tags": ["pk", "id"]}),
    ("column", "shop/orders/é", {"composed": "é", "decomposed": "e\u0301", "emoji": "\U0001f600"}),
    (
        "value",
        "ints",
        {"a": 2**53 + 1, "b": -(2**63), "c": 2**64 - 1, "d": 2**64, "e": -(2**63) - 1},
    ),
    ("value", "floats", {"a": 0.1, "b": -0.0, "c": 1e16, "d": 1e-7, "e": 5e-324, "f": 1e15}),
    ("value", "special", {"nan": float("nan"), "inf": float("inf"), "minus": float("-inf")}),
    ("value", "decimals", {"a": Decimal("1.50"), "b": Decimal("1E+3"), "c": Decimal("-0.0")}),
    ("value", "dates", {"a": date(2026, 11, 20), "b": time(19, 24, 14, 500_000)}),
    ("value", "instant", {"t": datetime(2026, 11, 20, 19, 24, 14, tzinfo=UTC)}),
    (
        "value",
        "instant",
        {"t": datetime(2026, 11, 20, 21, 24, 14, tzinfo=timezone(timedelta(hours=2)))},
    ),
    ("value", "instant", {"t": datetime(2026, 11, 20, 19, 24, 14)}),  # noqa: DTZ001
    ("value", "bytes", {"a": b"\x00\xff"}),
    ("value", "nested", {"b": [1, [2, {"y": [], "x": {}}]], "a": {"$ref": "#", "": None}}),
    ("value", "escapes", {"t": 'a"b\\c\n\x00\x1f\x7f/'}),
]
RELATIONSHIPS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("has", "shop/orders", "shop/orders/id", {}),
    ("has", "shop/orders/id", "shop/orders", {}),
    ("reads", "a", "bc", {"line": 7}),
    ("reads", "ab", "c", {"line": 7}),
]


def hashes() -> dict[str, list[dict[str, Any]]]:
    """Return what the file holds: per row its canonical text, its content digest and its index key."""
    return {Kind.ENTITY.value: _entities(), Kind.RELATIONSHIP.value: _relationships()}


def _entities() -> list[dict[str, Any]]:
    made = []
    for entity_type, key, attributes in ENTITIES:
        text = canonical_text(attributes)
        row = {"entity_type": entity_type, "entity_key": key, "attributes": text.decode()}
        digest = entity_digest(entity_type, key, text).hex()
        made.append({**row, "digest": digest, "index_key": _index_key(Kind.ENTITY, row, digest)})
    return made


def _relationships() -> list[dict[str, Any]]:
    made = []
    for name, a, b, attributes in RELATIONSHIPS:
        text = canonical_text(attributes)
        row = {"relationship_type": name, "from_key": a, "to_key": b, "attributes": text.decode()}
        digest = relationship_digest(name, a, b, text).hex()
        index_key = _index_key(Kind.RELATIONSHIP, row, digest)
        made.append({**row, "digest": digest, "index_key": index_key})
    return made


def _index_key(kind: Kind, row: dict[str, Any], digest: str) -> str:
    """Return the key that the index gives a row, whose vectorised digest has to be that of the one row."""
    keys = RowKeys(kind)
    keys.add(pa.Table.from_pylist([{**row, "tombstone": False}], schema=SCHEMAS[kind]))
    (section,) = keys.sort().sections
    assert f"{section.hash_hi[0]:016x}{section.hash_lo[0]:016x}" == digest
    return f"{section.key_hi[0]:016x}{section.key_lo[0]:016x}"


if __name__ == "__main__":
    PATH.write_text(json.dumps(hashes(), indent=1, ensure_ascii=False) + "\n")
