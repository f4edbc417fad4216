"""A source that catalogs what is installed in a Python environment.

::

    tools = python_environment("tools", path="/opt/tools/lib/python3.12/site-packages")

Everything is read from disk at each extract, past the import system and its caches. A distribution
whose metadata is broken is listed with what is known of it; only its own files and requirements are
``failed``.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.batch.manifest import RelationshipType
from penstock.batch.qualified_name import facet, qualified_name, within
from penstock.batch.rows import Entity, Kind, Relationship
from penstock.batch.scope import Completeness
from penstock.batch.source import Extract, Extracted, SourceDefinition, source
from penstock.errors import PenstockError
from resources.sources.errors import SourceUnavailable

if TYPE_CHECKING:
    from resources.sources.distributions import Installed

Folders = str | Path | Sequence[str | Path]
RELATIONSHIP_TYPES = (
    RelationshipType(name="contains", containment=True),
    RelationshipType(name="requires"),
)
PART_TYPES = (
    (Kind.ENTITY, "file"),
    (Kind.ENTITY, "entry_point"),
    (Kind.RELATIONSHIP, "contains"),
)
ALL_TYPES = ((Kind.ENTITY, "distribution"), *PART_TYPES, (Kind.RELATIONSHIP, "requires"))


@dataclass(frozen=True, kw_only=True)
class PythonEnvironment:
    """The extractor of :func:`python_environment`."""

    path: tuple[Path, ...] | None = None
    name: str = "python"
    verify_hashes: bool = False

    def __call__(self, extract: Extract, /) -> Iterator[Extracted]:
        """Yield what is installed; raises ``SourceUnavailable`` when no folder can be read."""
        from resources.sources.distributions import find_distributions

        configured = self.with_settings(extract.settings)
        folders = configured.path if configured.path is not None else running_folders()
        found = find_distributions(folders)
        if len(found.failed) == len(folders):
            raise SourceUnavailable(
                f"no folder of Python distributions can be read: {'; '.join(found.failed)}. "
                "Pass the site-packages folders as path"
            )
        yield from configured._rows(extract, found.installed, found.duplicates, found.failed)

    def with_settings(self, settings: Mapping[str, Any]) -> PythonEnvironment:
        """Return this extractor with what a source's settings say instead."""
        known = {"path", "name", "verify_hashes"}
        if unknown := settings.keys() - known:
            raise PenstockError(
                f"python_environment has no setting {sorted(unknown)[0]!r}: "
                f"use {', '.join(sorted(known))}"
            )
        changes = dict(settings)
        if "path" in changes:
            changes["path"] = _folders(changes["path"])
        return replace(self, **changes)

    def _rows(
        self,
        extract: Extract,
        installed: Sequence[Installed],
        duplicates: Sequence[str],
        failed: Sequence[str],
    ) -> Iterator[Extracted]:
        key = qualified_name(self.name)
        reason = "; ".join(failed)[:2000] or None
        how = Completeness.FAILED if failed else Completeness.COMPLETE
        extract.declare("environment", Completeness.COMPLETE, key)
        for kind, type_name in ALL_TYPES:
            extract.declare(type_name, how, key, kind=kind, reason=reason)
        if duplicates:
            extract.filter("distribution", len(duplicates))
        yield self._environment(key, duplicates)
        by_name = {each.name: each for each in installed}
        for each in installed:
            yield from self._distribution(extract, key, each, by_name, all_seen=not failed)

    def _environment(self, key: str, duplicates: Sequence[str]) -> Entity:
        attributes: dict[str, Any] = {"name": self.name, "duplicates": list(duplicates)}
        if self.path is None:
            attributes["python_version"] = platform.python_version()
            attributes["implementation"] = platform.python_implementation()
        return Entity(entity_type="environment", entity_key=key, attributes=attributes)

    def _distribution(
        self,
        extract: Extract,
        environment_key: str,
        each: Installed,
        by_name: Mapping[str, Installed],
        *,
        all_seen: bool,
    ) -> Iterator[Extracted]:
        from resources.sources.distributions import entry_points
        from resources.sources.requirements import requirements_of

        key = within(environment_key, each.name)
        found = requirements_of(each, by_name)
        attributes = dict(each.attributes)
        if all_seen and found.unmet:
            attributes["unmet_requirements"] = list(found.unmet)
        yield Entity(entity_type="distribution", entity_key=key, attributes=attributes)
        yield _contains(environment_key, key)
        if each.error:
            extract.declare(
                "requires", Completeness.FAILED, key, kind=Kind.RELATIONSHIP, reason=each.error
            )
        for name, edge in found.edges.items():
            yield Relationship(
                from_key=key,
                relationship_type="requires",
                to_key=within(environment_key, name),
                attributes=edge,
            )
        with _own_scope(extract, key):
            for point in entry_points(each):
                point_key = facet(key, "entry_point", point["group"], point["name"])
                yield Entity(entity_type="entry_point", entity_key=point_key, attributes=point)
                yield _contains(key, point_key)
            yield from self._files(extract, key, each)

    def _files(self, extract: Extract, key: str, each: Installed) -> Iterator[Extracted]:
        from resources.sources.distributions import is_bytecode, recorded_files

        seen: set[str] = set()
        for attributes in recorded_files(each, verify_hashes=self.verify_hashes):
            path = attributes["path"]
            if path in seen:
                continue
            seen.add(path)
            if is_bytecode(path):
                extract.filter("file")
                continue
            file_key = within(key, *path.split("/"))
            yield Entity(entity_type="file", entity_key=file_key, attributes=attributes)
            yield _contains(key, file_key)


@contextmanager
def _own_scope(extract: Extract, key: str) -> Iterator[None]:
    """Let a distribution that cannot be enumerated cost its own parts; the others need no scope of theirs."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  what others installed may be broken in any way
        reason = f"{type(error).__name__}: {error}"[:2000]
        for kind, type_name in PART_TYPES:
            extract.declare(type_name, Completeness.FAILED, key, kind=kind, reason=reason)


def _contains(container: str, contained: str) -> Relationship:
    return Relationship(from_key=container, relationship_type="contains", to_key=contained)


def running_folders() -> tuple[Path, ...]:
    """Return the folders that the running interpreter finds distributions in."""
    paths = sysconfig.get_paths()
    listed = [paths["purelib"], paths["platlib"]]
    listed += [
        entry for entry in sys.path if Path(entry).name in {"site-packages", "dist-packages"}
    ]
    real = dict.fromkeys(map(os.path.realpath, listed))
    return tuple(Path(path) for path in real if os.path.isdir(path))


def _folders(path: Folders | None) -> tuple[Path, ...] | None:
    if path is None:
        return None
    return tuple(map(Path, [path] if isinstance(path, str | Path) else path))


def python_environment(
    source_id: str,
    *,
    path: Folders | None = None,
    name: str = "python",
    verify_hashes: bool = False,
    **options: Any,
) -> SourceDefinition:
    """Return a source that catalogs the distributions in ``path``.

    ``path`` is one or several folders of distributions, in the order of the import path; by default
    those of the running interpreter. ``name`` is the first segment of every key. A file's size is
    compared with what its distribution recorded; with ``verify_hashes`` its content is, too, which
    reads every file. ``options`` go to :func:`penstock.batch.source.source`.
    """
    options.setdefault("description", "The distributions installed in a Python environment.")
    extractor = PythonEnvironment(path=_folders(path), name=name, verify_hashes=verify_hashes)
    declare = source(source_id, relationship_types=RELATIONSHIP_TYPES, **options)
    return declare(extractor)
