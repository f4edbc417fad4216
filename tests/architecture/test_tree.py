"""What stands at the root, in pyproject.toml and on the pages."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import typer.main

from control_plane.cli import app
from tests.architecture.tree import ROOT

DEMANDED = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Makefile",
    "README.md",
    "benchmarks",
    "control_plane",
    "dagster.yaml",
    "docs",
    "jobs",
    "penstock",
    "platform_assets",
    "pyproject.toml",
    "resources",
    "sensors",
    "tests",
    "uv.lock",
    "workspace.yaml",
}
ALLOWED = {".ci", ".gitignore", "LICENSE", "dagster.postgres.yaml"}
NOT_OURS = re.compile(
    r"\b(TODO|FIXME|TBD|XXX|lorem ipsum|coming soon|claude|anthropic|openai|chatgpt)\b|/work/|issue #?\d",
    re.IGNORECASE,
)
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)")
HAS_NO_ANSWER = {"up", "demo", "serve", "registry serve", "worker run"}


def pages() -> list[str]:
    """Return the Markdown pages of the product, below the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(str(page.relative_to(ROOT)) for page in found)


def test_the_root_has_the_names_that_it_should_and_no_others() -> None:
    """What is at the top level of the repository is what the house's plan names."""
    listed = subprocess.run(
        [
            "git",
            "-c",
            "safe.directory=*",
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    names = {path.partition("/")[0] for path in listed.stdout.split("\0") if path}
    if listed.returncode:  # an exported tree, without git
        names = {path.name for path in ROOT.iterdir()} & (DEMANDED | ALLOWED)
    assert names >= DEMANDED
    assert names - DEMANDED - ALLOWED == set()


def test_every_dependency_says_why_it_is_there() -> None:
    """Each requirement in pyproject.toml stands on a line of its own with a comment."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)
    required = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    lines = text.splitlines()
    silent = [
        requirement
        for requirement in required
        if not any(re.match(rf'\s*"{re.escape(requirement)}",\s+# \w', line) for line in lines)
    ]
    assert silent == []


def test_pages_speak_of_what_is_there() -> None:
    """No page holds a note to ourselves, a promise of what is not there yet, or a path of one machine."""
    found = [
        f"{page}:{number}: {match.group()}"
        for page in pages()
        for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), 1)
        if (match := NOT_OURS.search(line))
    ]
    assert found == []


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of every page names a file or folder that exists."""
    broken = [
        f"{page}: {target}"
        for page in pages()
        for target in relative_links((ROOT / page).read_text(encoding="utf-8"))
        if not ((ROOT / page).parent / target).exists()
    ]
    assert broken == []


def test_every_query_answers_in_json() -> None:
    """Every command but those that run something has --json."""
    silent = [name for name, command in commands() if "--json" not in options(command)]
    assert sorted(silent) == sorted(HAS_NO_ANSWER)


def relative_links(text: str) -> list[str]:
    """Return the files that a page links to, without their anchors; code blocks are not read."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    targets = [target.partition("#")[0] for target in LINK.findall(prose)]
    return [each for each in targets if each and not re.match(r"[a-z]+:", each)]


def commands() -> list[tuple[str, Any]]:
    """Return every command with its full name."""

    def walk(prefix: str, group: Any) -> list[tuple[str, Any]]:
        found = []
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                found += walk(f"{prefix}{name} ", command)
            else:
                found.append((prefix + name, command))
        return found

    return walk("", typer.main.get_command(app))


def options(command: Any) -> set[str]:
    """Return the options that a command takes."""
    return {option for parameter in command.params for option in parameter.opts}
