"""The pages: their commands are run, and what is generated is current."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from control_plane.reference import cli_page, settings_page
from control_plane.service.reference import api_page
from penstock.identity.ids import BatchId
from penstock.ports.dead_letters import DeadLetter
from penstock.use_cases.discover_batches import discover_batches
from resources.settings import Settings
from resources.wiring import open_platform
from tests.integration.published_home import (
    PublishedHome,
    publish_held,
    publish_home,
    publish_letters,
)

DOCS = Path(__file__).parents[2] / "docs"
RUN = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)
PENSTOCK = re.compile(
    r"^\s*(?:\w+=(?:'[^']*'|\S+) )*(?:\.venv/bin/)?penstock (\w[\w-]*)(?: (\w[\w-]*))?",
    re.MULTILINE,
)
"""The beginning of a line of shell code, after any settings for that one command."""


@dataclass(frozen=True)
class Block:
    """One block of commands on a page."""

    page: str
    number: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}-{self.number}"


BLOCKS = [
    Block(str(page.relative_to(DOCS)), number, text)
    for page in sorted(DOCS.rglob("*.md"))
    for number, text in enumerate(RUN.findall(page.read_text(encoding="utf-8")), 1)
]


@dataclass(frozen=True)
class Home:
    """An installation with something for every page."""

    published: PublishedHome
    rejected: BatchId
    """Another batch that a guard holds something of, and its plan."""
    rejected_plan: str
    letters: list[DeadLetter]
    """Open ones, each of its own cause."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("docs")
    published = publish_home(folder)
    platform = open_platform(Settings(home=published.home))
    cursor = discover_batches(platform, "").cursor
    held, plan, cursor = publish_held(platform, folder / "cellar.db", cursor, name="cellar")
    publish_letters(platform, 8, cursor)
    return Home(published, held, plan, platform.control.list_dead_letters())


def variables(block: Block, home: Home) -> dict[str, str]:
    """Return what the pages' variables stand for; no letter is dealt with twice."""
    published, rejects = home.published, "penstock reject" in block.text
    letters = [home.letters.pop() for _ in range(2 if "$LETTER" in block.text else 0)]
    return {
        "PENSTOCK_HOME": str(published.home),
        "BATCH": published.second if "republish" not in block.text else published.first,
        "WAITING": published.waiting,
        "HELD": home.rejected if rejects else published.held,
        "PLAN": home.rejected_plan if rejects else published.held_plan,
        "SOURCE": "shop",
        "ENTITY": published.entity,
        "LETTER": letters[0].dead_letter_id if letters else "",
        "FINGERPRINT": letters[1].fingerprint if letters else "",
    }


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS}))
def test_the_commands_of_a_page_work(page: str, home: Home, tmp_path: Path) -> None:
    """Every marked block of a page runs to its end in a shell, and says something; later ones build on earlier."""
    for block in (block for block in BLOCKS if block.page == page):
        folder = tmp_path / str(block.number)
        folder.mkdir()
        ran = subprocess.run(
            ["sh", "-eu", "-c", block.text],
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                **variables(block, home),
            },
            cwd=folder,
            check=False,
        )
        assert (str(block), ran.returncode, ran.stderr) == (str(block), 0, "")
        assert ran.stdout.strip(), str(block)


def test_pages_have_commands_to_run() -> None:
    """The quickstart and the how-to pages of an operator have marked blocks."""
    assert {block.page for block in BLOCKS} >= {
        "quickstart/first_batch.md",
        "howto/operate.md",
        "howto/tune_the_queue.md",
    }


@pytest.mark.parametrize(
    ("name", "page"),
    [("cli.md", cli_page), ("settings.md", settings_page), ("control_api.md", api_page)],
    ids=["cli", "settings", "control_api"],
)
def test_generated_pages_are_current(name: str, page: object) -> None:
    """The page is what the code says; regenerate it with python -m control_plane.reference."""
    assert callable(page)
    assert (DOCS / "reference" / name).read_text(encoding="utf-8") == page()


def test_pages_name_commands_that_exist() -> None:
    """Wherever a page writes a penstock command in code, there is such a command."""
    known = set(re.findall(r"^## `penstock ([a-z -]+?)(?: [A-Z\[].*)?`$", cli_page(), re.MULTILINE))
    words = {name.partition(" ")[0] for name in known}
    unknown = []
    for page in [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]:
        for code in re.findall(r"`+(?:sh\n)?(.*?)`+", page.read_text(encoding="utf-8"), re.DOTALL):
            for first, second in PENSTOCK.findall(code):
                if first not in words and f"{first} {second}" not in known:
                    unknown.append(f"{page.name}: penstock {first}")
    assert unknown == []
