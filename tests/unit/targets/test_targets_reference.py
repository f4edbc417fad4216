"""The page on targets, whose code is run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

PAGE = Path(__file__).parents[3] / "docs/reference/targets.md"


def test_the_mapping_on_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example makes the table that it describes, with the target's own columns."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    columns = {
        column["name"] for column in inspect(names["target"].engine).get_columns("catalog_tables")
    }
    assert columns == {
        "qualified_name",
        "comment",
        "row_count",
        "attributes",
        "_penstock_source",
        "_penstock_digest",
        "_penstock_operation",
    }
    names["target"].engine.dispose()
