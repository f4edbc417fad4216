"""The published schema of manifests is the one that the code checks (run this module to write it anew)."""

from __future__ import annotations

import json
from pathlib import Path

from penstock.batch.manifest import Manifest

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "manifest.schema.json"


def schema_text() -> str:
    """Return what the page holds."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(),
    }
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def test_the_published_schema_is_current() -> None:
    """Whoever lands batches by other means can rely on the page."""
    assert PAGE.read_text() == schema_text()


def test_the_schema_requires_what_a_manifest_needs() -> None:
    """The required fields and the closed form are in the schema, not in the code alone."""
    schema = json.loads(schema_text())
    assert set(schema["required"]) == {
        "source_id",
        "source_timestamp",
        "processing_timestamp",
        "mode",
    }
    assert schema["additionalProperties"] is False


if __name__ == "__main__":
    PAGE.write_text(schema_text())
