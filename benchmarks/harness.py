"""What every benchmark shares: its results, the machine it ran on, and how both are shown.

A benchmark is a module of this package with ``run(*, quick: bool) -> list[Result]``; its name is the module's.
Figures are ratios against a peer measured in the same run wherever there is one. A missed goal never
fails a run: it is shown as missed.
"""

from __future__ import annotations

import json
import os
import platform
import resource
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter
from typing import Any

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure."""

    name: str
    value: float
    unit: str
    peer: str | None = None
    """What it was measured against in the same run."""
    goal: str | None = None
    met: bool | None = None


def at_most(limit: float, unit: str) -> Callable[[float], tuple[str, bool]]:
    """Return a goal: a function from a value to its text and whether it is met."""
    return lambda value: (f"<= {limit:g} {unit}", value <= limit)


def at_least(limit: float, unit: str) -> Callable[[float], tuple[str, bool]]:
    """Return a goal: a function from a value to its text and whether it is met."""
    return lambda value: (f">= {limit:g} {unit}", value >= limit)


def result(
    name: str,
    value: float,
    unit: str,
    *,
    peer: str | None = None,
    goal: Callable[[float], tuple[str, bool]] | None = None,
) -> Result:
    """Make a result and judge it by its goal."""
    text, met = goal(value) if goal else (None, None)
    return Result(name=name, value=value, unit=unit, peer=peer, goal=text, met=met)


def timed(work: Callable[[], object], *, repeat: int = 3) -> tuple[float, float]:
    """Return the median and the spread (max - min) of the seconds that ``work`` takes."""
    seconds = []
    for _ in range(repeat):
        start = perf_counter()
        work()
        seconds.append(perf_counter() - start)
    return median(seconds), max(seconds) - min(seconds)


def resident_bytes() -> int:
    """Return this process's resident memory now."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def peak_resident_bytes() -> int:
    """Return the most memory this process ever had resident."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def machine() -> dict[str, Any]:
    """Describe the machine that figures come from."""
    model = ""
    with open("/proc/cpuinfo") as cpuinfo:
        for line in cpuinfo:
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def report(bench: str, results: list[Result], *, as_json: bool) -> None:
    """Print a table for a person, or one JSON object for a machine."""
    if as_json:
        body = {"bench": bench, "machine": machine(), "results": [asdict(r) for r in results]}
        print(json.dumps(body))
        return
    table = Table(title=f"bench {bench}", title_justify="left")
    for heading in ("figure", "value", "against", "goal", "met"):
        table.add_column(heading, overflow="fold")
    for r in results:
        met = "" if r.met is None else ("yes" if r.met else "NO")
        table.add_row(r.name, f"{r.value:,.4g} {r.unit}", r.peer or "", r.goal or "", met)
    Console().print(table)
    Console().print(", ".join(f"{key} {value}" for key, value in machine().items()))
