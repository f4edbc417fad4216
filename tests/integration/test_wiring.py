"""The platform that settings describe."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.settings import Settings
from resources.wiring import open_platform

TWO = {"PENSTOCK_SQL_TARGETS": '{"warehouse": "sqlite://"}'}


@pytest.mark.parametrize(
    ("environ", "most"),
    [
        ({}, None),
        (TWO, None),
        ({**TWO, "PENSTOCK_WORKERS": "5"}, 4),
        ({**TWO, "PENSTOCK_WORKERS": "2"}, None),
        ({**TWO, "PENSTOCK_QUEUE_POLICY": '{"most_lanes_per_target": 7}'}, 7),
        ({**TWO, "PENSTOCK_QUEUE_POLICY": '{"most_lanes_per_target": null}'}, None),
        ({**TWO, "PENSTOCK_WORKERS": "3", "PENSTOCK_QUEUE_POLICY": '{"age_weight": 2}'}, 2),
    ],
)
def test_one_target_never_has_all_workers(
    tmp_path: Path, environ: dict[str, str], most: int | None
) -> None:
    """With two targets one worker is left to the other, unless a limit is set, or none on purpose."""
    settings = Settings.from_env({"PENSTOCK_HOME": str(tmp_path), **environ})
    platform = open_platform(settings)
    assert platform.queue_policy.most_lanes_per_target == most
    assert platform.queue_policy.age_weight == settings.queue_policy.age_weight
