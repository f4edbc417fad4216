"""``make crash``: all kills over both databases and three targets, with a table of their numbers and all differences.

``python -m tests.crash [--small | --quick] [--seed N] [--database sqlite|postgres] [--target registry|tables|wiki]
[--step NAME]``
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from tests.crash.campaign import KINDS, QUICK, SMALL, WHOLE, Kill
from tests.crash.jobs import run_job, say
from tests.crash.scenario import STEPS
from tests.crash.worlds import TARGETS

DATABASES = ("sqlite", "postgres")
AT_ONCE = 2
"""Campaigns side by side, each with a worker or two at work: as many as there are cores on a small machine."""


def main(arguments: Sequence[str]) -> int:
    """Run campaigns, two at a time, and say what came of them; 1 if anything differed."""
    parser = argparse.ArgumentParser(prog="make crash", description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--small", dest="plan", action="store_const", const=SMALL, default=WHOLE)
    size.add_argument("--quick", dest="plan", action="store_const", const=QUICK)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", action="append", choices=DATABASES)
    parser.add_argument("--target", action="append", choices=TARGETS)
    parser.add_argument(
        "--step", action="append", choices=[step.name for step in STEPS if step.harmed]
    )
    asked = parser.parse_args(arguments)
    start = time.monotonic()
    # PostgreSQL takes longer, so that comes first, and SQLite fills up what is left.
    jobs = [
        (database, (target,), asked.plan, asked.seed, tuple(asked.step or ()))
        for database in sorted(asked.database or DATABASES)
        for target in asked.target or TARGETS
    ]
    with ProcessPoolExecutor(AT_ONCE, mp_context=get_context("spawn")) as pool:
        kills = [kill for found in pool.map(run_job, jobs) for kill in found]
    say(table(kills))
    failed = [kill for kill in kills if kill.differences]
    for kill in failed:
        say(f"DIFFERENT: {kill.database} {kill.target}, {kill.step}, {kill.kind} at {kill.where}")
        for difference in kill.differences[:20]:
            say(f"    {difference}")
    count = sum(kill.killed for kill in kills)
    say(
        f"crash: {count} kills in {time.monotonic() - start:.0f} s, seed {asked.seed}: "
        f"{len(failed)} differences"
    )
    return 1 if failed or not count else 0


def table(kills: Sequence[Kill]) -> str:
    """Return kills and differences by database, target and kind."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for kill in kills:
        counts[kill.database, kill.target, kill.kind] += kill.killed
        counts[kill.database, kill.target, "differences"] += bool(kill.differences)
    columns = (*KINDS, "differences")
    lines = [f"{'database':<10}{'target':<11}" + "".join(f"{name:>9}" for name in KINDS)]
    lines[0] += f"{'all':>9}{'different':>11}"
    for database, target in sorted({(kill.database, kill.target) for kill in kills}):
        numbers = [counts[database, target, name] for name in columns]
        line = f"{database:<10}{target:<11}" + "".join(f"{n:>9}" for n in numbers[:-1])
        lines.append(line + f"{sum(numbers[:-1]):>9}{numbers[-1]:>11}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
