"""The page on adding a source: its code does what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from platform_assets.sources import declared_sources

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "add_a_source.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w/]+\.py)\n")


def blocks() -> list[tuple[str, str]]:
    """Return the language and text of every code block, in order."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def run(folder: Path, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        check=False,
        cwd=folder,
        env={"PYTHONPATH": f"{folder}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files in it, and the file of stock that its first block makes."""
    folder = tmp_path_factory.mktemp("howto")
    for _, code in blocks():
        named = FILE_NAME.match(code)
        if named and "/" not in named[1]:
            (folder / named[1]).write_text(code)
    run(folder, "make_stock.py")
    return folder


def test_every_block_is_python() -> None:
    """Whatever is shown as code can be run here."""
    assert {language for language, _ in blocks()} == {"python"}
    assert len(blocks()) >= 9


@pytest.mark.parametrize("number", range(len(blocks())))
def test_each_block_runs(folder: Path, number: int) -> None:
    """Each block runs by itself, beside the files that earlier blocks are, and its assertions hold."""
    run(folder, "-c", blocks()[number][1])


def test_the_sources_own_tests_pass(folder: Path) -> None:
    """What the page shows as tests passes as tests."""
    run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_stock.py")


def test_the_tests_notice_a_source_that_claims_too_much(folder: Path, tmp_path: Path) -> None:
    """Were the source to swallow the failure itself, the page's tests would fail."""
    careless = (folder / "stock.py").read_text().replace("SELECT * FROM item", "SELECT 1 WHERE 0")
    (tmp_path / "stock.py").write_text(careless)
    (tmp_path / "test_stock.py").write_text((folder / "test_stock.py").read_text())
    with pytest.raises(AssertionError, match="2 failed"):
        run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_stock.py")


def test_the_named_sources_are_declared(folder: Path) -> None:
    """The block for platform_assets/sources.py declares the new source beside the ready ones."""
    [code] = [code for _, code in blocks() if code.startswith("# platform_assets/sources.py")]
    check = (
        "assert [s.spec.source_id for s in declared_sources()] == ['crm_catalog', 'tools', 'stock']"
    )
    run(folder, "-c", f"{code}\n{check}")


def test_the_place_that_the_page_names_is_the_place() -> None:
    """platform_assets/sources.py holds the function that the page shows."""
    assert declared_sources.__module__ == "platform_assets.sources"
