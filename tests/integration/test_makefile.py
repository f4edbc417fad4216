"""The Makefile: what it would run, and what it says on a machine that lacks something."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TARGETS = (
    "setup",
    "demo",
    "up",
    "test",
    "crash",
    "fuzz",
    "check",
    "bench",
    "clean",
    "lock",
    "help",
)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a folder, with a space in its path, that has the Makefile and what it depends on."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, folder)
    return folder


def tools(folder: Path, **scripts: str) -> str:
    """Return a PATH with the shell's own tools and some scripts in place of others."""
    folder.mkdir()
    for name in ("sh", "rm", "id", "sed", "expand", "cat", "touch", "printf"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    for name, text in scripts.items():
        script = folder / name.replace("_", "-")
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    return str(folder)


def make(clone: Path, *arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run make in a folder."""
    program = shutil.which("make")
    assert program
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    environment["PATH"] = path or environment["PATH"]
    return subprocess.run(
        [program, "-C", str(clone), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_exists(clone: Path, target: str) -> None:
    """Each target that the pages name can be made, in a folder with a space in its path."""
    ran = make(clone, "-n", target)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_targets_that_run_something_install_first(clone: Path) -> None:
    """On an empty clone, demo, up, test, crash, check and bench install the locked environment before all else."""
    for target in ("demo", "up", "test", "crash", "fuzz", "check", "bench"):
        steps = make(clone, "-n", target).stdout
        assert steps.index("-m venv .tools") < steps.index("sync --frozen") < len(steps)


def test_an_installed_environment_is_not_installed_again(clone: Path) -> None:
    """With the stamps in place there is nothing to install; a newer lock file installs again."""
    version = next(
        line.split()[-1]
        for line in (clone / "Makefile").read_text().splitlines()
        if line.startswith("UV_VERSION")
    )
    for folder, stamp in ((".tools", f".uv-{version}"), (".venv", ".synced")):
        (clone / folder).mkdir()
        (clone / folder / stamp).write_text(str(clone))
    assert "sync --frozen" not in make(clone, "-n", "test").stdout
    later = (clone / ".venv" / ".synced").stat().st_mtime + 10
    os.utime(clone / "uv.lock", (later, later))
    assert "sync --frozen" in make(clone, "-n", "test").stdout


def test_a_moved_environment_is_made_anew(clone: Path) -> None:
    """An environment that was made for another folder is thrown away, since its scripts name that folder."""
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".synced").write_text("/somewhere/else")
    assert "sync --frozen" in make(clone, "-n", "test").stdout
    assert not (clone / ".venv").exists()


def test_without_python_it_says_what_to_install(clone: Path, tmp_path: Path) -> None:
    """Without a fitting Python, setup fails with the command that installs one."""
    old = "exit 1"
    ran = make(clone, "setup", path=tools(tmp_path / "bin", python3=old))
    assert ran.returncode != 0
    assert "no Python from 3.11 to 3.13 is on the PATH" in ran.stderr
    assert "apt-get install -y python3 python3-venv" in ran.stderr


LACKING = """
case "$*" in
    *base_executable*) echo "$0" ;;
    *-venv*) echo python3.11-venv ;;
    "-m venv"*) test -e "$(dirname "$0")/installed" && mkdir -p .tools/bin && exit 0; exit 1 ;;
esac
"""


def test_without_venv_and_root_it_says_what_to_install(clone: Path, tmp_path: Path) -> None:
    """A person who is not root is told exactly which package is missing, and nothing half-made stays."""
    path = tools(tmp_path / "bin", python3=LACKING)
    (tmp_path / "bin" / "id").unlink()
    (tmp_path / "bin" / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "bin" / "id").chmod(0o755)
    ran = make(clone, "setup", path=path)
    assert ran.returncode != 0
    assert "sudo apt-get update && sudo apt-get install -y python3.11-venv" in ran.stderr
    assert not (clone / ".tools").exists()


def test_without_venv_root_installs_it(clone: Path, tmp_path: Path) -> None:
    """Root gets the missing package installed, after an update, and setup tries again."""
    binaries = tmp_path / "bin"
    log = tmp_path / "apt.log"
    apt = f'echo "$@" >> "{log}"; case "$*" in install*) : > "{binaries}/installed" ;; esac'
    path = tools(binaries, python3=LACKING, apt_get=apt)
    for name in ("mkdir", "dirname"):
        (binaries / name).symlink_to(shutil.which(name) or "")
    (binaries / "id").unlink()
    (binaries / "id").write_text("#!/bin/sh\necho 0\n")
    (binaries / "id").chmod(0o755)
    ran = make(clone, "setup", path=path)
    assert log.read_text().splitlines() == ["update -qq", "install -y -qq python3.11-venv"]
    assert "installing python3.11-venv" in ran.stdout
    assert (clone / ".tools" / "bin").is_dir()


def test_an_activated_environment_does_not_interfere(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an activated environment sets is not handed on to what make runs."""
    with (clone / "Makefile").open("a") as makefile:
        makefile.write("show:\n\t@env\n")
    for name in (
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "PYTHONDONTWRITEBYTECODE",
        "UV_PROJECT_ENVIRONMENT",
    ):
        monkeypatch.setenv(name, "/elsewhere")
    shown = make(clone, "show").stdout
    assert "elsewhere" not in shown
    assert "UV_PROJECT_ENVIRONMENT" not in shown
    assert "UV_PYTHON_DOWNLOADS=never" in shown
