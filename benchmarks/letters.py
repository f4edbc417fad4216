"""What a flood of dead letters costs: 100,000 refused entities of one batch, each with something below it.

A target refuses them all, and takes them once it has been mended. Measured are how long it takes to record them, to
list a page, to count them by cause, and to requeue them by fingerprint in pages, each a correction of its own;
and how much memory the requeueing needs, in a process of its own, for few letters and for all.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from benchmarks.harness import Result, at_most, peak_resident_bytes, resident_bytes, result
from penstock.batch.rows import Entity
from penstock.batch.source import Extract, SourceDefinition, SourceSpec
from penstock.identity.ids import SourceId, TargetId
from penstock.ports.dead_letters import LetterFilter
from penstock.ports.target import Applied, OperationFailure, Outcome
from penstock.publish.dead_letters import LetterStatus
from penstock.use_cases.acts import By
from penstock.use_cases.dead_letters import letter_groups, list_letters, requeue_letters
from penstock.use_cases.discover_batches import discover_batches
from penstock.use_cases.extract_source import extract_source
from penstock.use_cases.land_batch import land_batch
from penstock.use_cases.publish import publish_next
from resources.settings import Settings
from resources.wiring import open_platform

if TYPE_CHECKING:
    import pyarrow as pa

    from penstock.batch.rows import Kind
    from penstock.ports.target import ApplyContext
    from penstock.publish.state import PublishState
    from penstock.use_cases.platform import Platform

_T = TypeVar("_T")
SOURCE, STRICT = SourceId("letters"), TargetId("strict")
AT = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 10_000
"""Letters requeued at once: as many as the default limit allows in a minute."""
NOTE = "x" * 1000
BY = By(actor="bench", reason="the target was mended")


@dataclass(frozen=True, kw_only=True)
class StrictTarget:
    """A target that refuses entities of one type, or keeps nothing and says that all is well."""

    target_id: TargetId = STRICT
    refuses: bool = True

    def prepare(self) -> None:
        """Need nothing."""

    def apply(self, operations: pa.Table, context: ApplyContext) -> Applied:
        """Refuse each table, and nothing else."""
        del context
        failures = [
            OperationFailure(
                operation_id=operation,
                outcome=Outcome.REJECTED,
                code="not_yet",
                message="tables are not taken yet",
            )
            for operation, name in zip(
                operations["operation_id"].to_pylist(),
                operations["type_name"].to_pylist(),
                strict=True,
            )
            if self.refuses and name == "table"
        ]
        applied = len(operations) - len(failures)
        return Applied(applied=applied, already_applied=0, failures=tuple(failures))

    def read_back(self, source: SourceId, kind: Kind, keys: pa.Table) -> pa.Table:
        """Hold nothing that could be read: nothing is verified here."""
        raise NotImplementedError


def run(*, quick: bool = False) -> list[Result]:
    """Fail 100,000 entities (400 if quick) and requeue them all."""
    letters = 400 if quick else 100_000
    folder = Path(tempfile.mkdtemp(prefix="penstock-bench-"))
    try:
        return [*_failed(folder, letters), *_looked_at(folder, letters), *_tried(folder, letters)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _opened(folder: Path, *, refuses: bool) -> Platform:
    platform = open_platform(Settings(home=folder, verify_sample=0, requeues_per_minute=10**9))
    return replace(platform, targets={STRICT: StrictTarget(refuses=refuses)})


def _definition(letters: int) -> SourceDefinition:
    def extract(_extract: Extract) -> Iterator[Entity]:
        for n in range(letters):
            key = f"letters/t{n}"
            yield Entity(entity_type="table", entity_key=key, attributes={"n": n, "note": NOTE})
            yield Entity(entity_type="column", entity_key=f"{key}/c", attributes={})

    return SourceDefinition(spec=SourceSpec(source_id=SOURCE, targets=(STRICT,)), extractor=extract)


def _failed(folder: Path, letters: int) -> Iterator[Result]:
    platform, definition = _opened(folder, refuses=True), _definition(letters)
    platform.control.sync_sources([definition.spec])
    extract_source(platform, definition, AT)
    land_batch(platform, definition, AT)
    discover_batches(platform, "")
    seconds, state = _timed(lambda: _published(platform))
    assert (state.rejected, state.blocked) == (letters, letters)
    yield result("dead letters recorded", letters / seconds, "letters/s")


def _looked_at(folder: Path, letters: int) -> Iterator[Result]:
    platform = _opened(folder, refuses=False)
    is_open = LetterFilter(status=LetterStatus.OPEN)
    first_s, first = _timed(lambda: list_letters(platform, chosen=is_open))
    yield result("first page of a hundred", 1000 * first_s, "ms", goal=at_most(200, "ms"))
    after = first[-1].dead_letter_id
    next_s, _ = _timed(lambda: list_letters(platform, chosen=is_open, after=after))
    yield result("next page", 1000 * next_s, "ms", goal=at_most(200, "ms"))
    groups_s, (group,) = _timed(lambda: letter_groups(platform, chosen=is_open))
    assert group.letters == letters
    yield result("counted by cause", groups_s, "s", goal=at_most(2, "s"))


def _tried(folder: Path, letters: int) -> Iterator[Result]:
    few = _apart(_requeue, folder, min(100, letters // 10), 1)
    _apart(_publish_all, folder)
    page = min(PAGE, letters // 2)
    one = _apart(_requeue, folder, page, 1)
    publish_s = _apart(_publish_all, folder)
    rest = _apart(_requeue, folder, page, letters)
    _apart(_publish_all, folder)
    platform = _opened(folder, refuses=False)
    assert not list_letters(platform, chosen=LetterFilter(status=LetterStatus.OPEN))
    (state,) = platform.control.list_states(limit=10**6)[-1:]
    assert state.exceptions == 0
    yield result(f"requeued, a page of {page:,}", one.letters / one.seconds, "letters/s")
    yield result("published, such a page", one.letters / publish_s, "letters/s")
    yield result(f"requeued, all in pages of {page:,}", rest.letters / rest.seconds, "letters/s")
    peer = f"{few.letters:,} letters"
    for name, done in ((f"memory for a page of {page:,}", one), ("memory for all pages", rest)):
        goal = at_most(200, "MiB")
        yield result(name, (done.memory - few.memory) / 2**20, "MiB", peer=peer, goal=goal)


@dataclass(frozen=True, kw_only=True)
class _Done:
    letters: int
    seconds: float
    memory: int
    """Bytes over what the process had before."""


def _requeue(folder: Path, page: int, most: int) -> _Done:
    """Requeue pages of one cause until it has no open letter left, or ``most`` are on their way."""
    platform = _opened(folder, refuses=False)
    chosen = LetterFilter(status=LetterStatus.OPEN)
    letter_groups(platform, chosen=chosen)  # imports and first connections are not measured
    before, start, done = resident_bytes(), perf_counter(), 0
    while done < most and (groups := letter_groups(platform, chosen=chosen)):
        cause = LetterFilter(fingerprint=groups[0].fingerprint)
        done += requeue_letters(platform, by=BY, chosen=cause, limit=page).letters
    seconds = perf_counter() - start
    return _Done(letters=done, seconds=seconds, memory=peak_resident_bytes() - before)


def _publish_all(folder: Path) -> float:
    platform = _opened(folder, refuses=False)
    start = perf_counter()
    while (report := publish_next(platform, "bench")) is not None:
        assert report.state.exceptions == 0
    return perf_counter() - start


def _published(platform: Platform) -> PublishState:
    report = publish_next(platform, "bench")
    assert report is not None
    return report.state


def _apart(work: Callable[..., _T], *arguments: object) -> _T:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _timed(work: Callable[[], _T]) -> tuple[float, _T]:
    start = perf_counter()
    answer = work()
    return perf_counter() - start, answer
