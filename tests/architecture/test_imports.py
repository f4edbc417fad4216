"""Importing a module does nothing: no file is written, nothing is connected to, no process is started."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.architecture.tree import PACKAGES, ROOT, modules

WATCH = """
import json, os, sys
seen = []
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC

def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING:
        if arguments[0] != os.devnull:
            seen.append([event, str(arguments[0])])
    elif event == "subprocess.Popen" and arguments[0] == "file":
        pass  # the standard library's platform.architecture() asks it about the interpreter
    elif event in ("socket.connect", "subprocess.Popen", "os.system", "os.mkdir", "os.remove",
                   "os.rename", "sqlite3.connect", "os.exec", "os.posix_spawn", "os.fork"):
        seen.append([event, repr(arguments[:1])])

import importlib
sys.addaudithook(watch)
found = {}
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
    if seen:
        found[name] = list(seen)
        seen.clear()
print(json.dumps(found))
"""
FRUGAL = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({"pandas", "deepdiff", "duckdb", "sqlglot", "moto"} & set(sys.modules))))
"""
ENVIRONMENTS = {"resources.control_db.migrations.env"}
"""Alembic runs this module as a script inside a migration; it is not for importing."""


def test_importing_any_module_does_nothing(tmp_path: Path) -> None:
    """Every module of every package is imported in a fresh process with an audit hook that sees no I/O."""
    names = [
        module.dotted
        for module in modules(*PACKAGES)
        if module.dotted not in ENVIRONMENTS and module.path.stem.isidentifier()
    ]
    assert answer(WATCH, names, tmp_path) == {}
    assert list(tmp_path.iterdir()) == []


def test_the_domain_is_imported_without_what_few_need(tmp_path: Path) -> None:
    """Every run and every command imports the domain, so libraries that are dear to load are loaded where used."""
    names = [module.dotted for module in modules("penstock")]
    assert answer(FRUGAL, names, tmp_path) == []


def answer(script: str, names: list[str], folder: Path) -> Any:
    """Run a script over module names in a fresh process and a folder, and return what it prints."""
    environment = {**os.environ, "PENSTOCK_HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-B", "-c", script, json.dumps(names)],
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)
