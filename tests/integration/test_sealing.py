"""The key that seals secrets: made once in the home folder, for its owner's eyes alone."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from resources.sealing import KEY_FILE, BadSecretKey, SecretBox, open_box


def test_a_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    """Whoever comes first makes it, all use the same, and nothing else is left beside it."""
    home = tmp_path / "home"
    with ThreadPoolExecutor(8) as pool:
        boxes = list(pool.map(lambda _: open_box([], home), range(8)))
    assert [file.name for file in home.iterdir()] == [KEY_FILE]
    assert stat.S_IMODE((home / KEY_FILE).stat().st_mode) == 0o600
    assert {box.open(boxes[0].seal("a secret")) for box in boxes} == {"a secret"}


def test_keys_that_are_configured_need_no_file(tmp_path: Path) -> None:
    """Then nothing is written."""
    key = "A" * 43 + "="
    box = open_box([key], tmp_path)
    assert box.open(SecretBox([key]).seal("a secret")) == "a secret"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("keys", [["too-short"], ["A" * 43 + "=", "not base64 at all!"], [""]])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, keys: list[str]) -> None:
    """The message says what keys look like and how one is made."""
    with pytest.raises(BadSecretKey, match="openssl rand") as refused:
        open_box(keys, tmp_path)
    assert not keys[-1] or keys[-1] not in str(refused.value)
