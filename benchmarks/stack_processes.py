"""The processes of a running stack, found from outside: what benches and tests kill, and what must not be left."""

from __future__ import annotations

from pathlib import Path


def processes_over(home: Path, name: str = "") -> list[int]:
    """Return the processes over a data folder, a supervisor included, that have a name in their command line."""
    wanted = f"PENSTOCK_HOME={home}".encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes().split(b"\0")
            if wanted in environ and name in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended, or is somebody else's
    return found
