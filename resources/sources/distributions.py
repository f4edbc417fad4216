"""Reading installed distributions from disk: ``.dist-info`` and ``.egg-info``, as they are this moment.

The forms are those of
https://packaging.python.org/en/latest/specifications/recording-installed-packages/.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from packaging.metadata import RawMetadata, parse_email
from packaging.utils import canonicalize_name

_SUFFIXES = (".dist-info", ".egg-info")
_HASHES = frozenset({"sha256", "sha384", "sha512"})
_LONGEST_LICENSE = 200


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One distribution as installed."""

    name: str
    """Normalised as by PEP 503."""
    version: str | None
    info: Path
    """Its ``.dist-info`` or ``.egg-info``."""
    attributes: Mapping[str, Any]
    requires: Sequence[str] = ()
    extras: Sequence[str] = ()
    error: str | None = None
    """Why its metadata is not known."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the folders of an environment hold."""

    installed: Sequence[Installed]
    duplicates: Sequence[str]
    """Names that another distribution earlier on the path has taken."""
    failed: Sequence[str] = field(default_factory=list)
    """Folders that could not be listed, each with its reason."""


def find_distributions(folders: Sequence[Path]) -> Found:
    """Return the distributions in some folders; of several with one name, the first wins."""
    installed: dict[str, Installed] = {}
    duplicates: list[str] = []
    failed: list[str] = []
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            failed.append(f"{folder}: {error.strerror or error}")
            continue
        for name in names:
            if name.endswith(_SUFFIXES) and not name.startswith("~"):
                each = read_distribution(folder / name)
                if each.name in installed:
                    duplicates.append(each.name)
                else:
                    installed[each.name] = each
    return Found(installed=list(installed.values()), duplicates=duplicates, failed=failed)


def read_distribution(info: Path) -> Installed:
    """Return what is known of one distribution, which is its file name at the least."""
    raw, error = _metadata(info)
    file_name, _, file_version = info.name.rpartition(".")[0].partition("-")
    written = raw.get("name") or file_name
    version = raw.get("version") or (file_version or None)
    return Installed(
        name=canonicalize_name(written),
        version=version,
        info=info,
        attributes=_attributes(info, raw, written, version, error),
        requires=_requires(info, raw),
        extras=raw.get("provides_extra", []),
        error=error,
    )


def _metadata(info: Path) -> tuple[RawMetadata, str | None]:
    distribution = PathDistribution(info)
    try:
        for name in ("METADATA", "PKG-INFO", ""):
            if text := distribution.read_text(name):
                raw, _ = parse_email(text)
                if raw.get("name") and raw.get("version"):
                    return raw, None
                return raw, f"{info.name}/{name} has no Name or no Version"
    except (OSError, ValueError) as error:
        return RawMetadata(), f"{info.name} cannot be read: {error}"
    return RawMetadata(), f"{info.name} has no METADATA"


def _requires(info: Path, raw: RawMetadata) -> list[str]:
    if info.suffix == ".egg-info" and "requires_dist" not in raw:
        try:
            return list(PathDistribution(info).requires or ())
        except (OSError, ValueError):
            return []
    return list(raw.get("requires_dist", ()))


def _attributes(
    info: Path, raw: RawMetadata, written: str, version: str | None, error: str | None
) -> dict[str, Any]:
    classifiers = raw.get("classifiers", [])
    direct_url = _direct_url(info)
    attributes: dict[str, Any] = {
        "name": written,
        "version": version,
        "summary": raw.get("summary"),
        "license_expression": raw.get("license_expression"),
        "license": _short(raw.get("license")),
        "license_classifiers": [line for line in classifiers if line.startswith("License ::")],
        "requires_python": raw.get("requires_python"),
        "extras": raw.get("provides_extra", []),
        "requires": raw.get("requires_dist", []),
        "installer": _line(info, "INSTALLER"),
        "requested": (info / "REQUESTED").exists(),
        "direct_url": direct_url,
        "editable": bool((direct_url or {}).get("dir_info", {}).get("editable")),
        "metadata_error": error,
    }
    return {name: value for name, value in attributes.items() if value not in (None, [], False)}


def _short(text: str | None) -> str | None:
    """Return the first line of a licence, for some put all of its text into the field."""
    lines = (text or "").strip().splitlines()
    return lines[0][:_LONGEST_LICENSE] if lines else None


def _line(info: Path, name: str) -> str | None:
    try:
        text = (info / name).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    return text.strip() or None


def _direct_url(info: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(_line(info, "direct_url.json") or "null")
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    return {**document, "url": _without_user(str(document.get("url", "")))}


def _without_user(url: str) -> str:
    """Return a URL without user and password, which an index's URL may carry."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def entry_points(each: Installed) -> Iterator[dict[str, str]]:
    """Yield the entry points of a distribution, each once; raises ``ValueError`` where they are malformed."""
    seen: set[tuple[str, str]] = set()
    for point in PathDistribution(each.info).entry_points:
        if (point.group, point.name) not in seen:
            seen.add((point.group, point.name))
            yield {"group": point.group, "name": point.name, "value": point.value}


def recorded_files(each: Installed, *, verify_hashes: bool) -> Iterator[dict[str, Any]]:
    """Yield the files of a distribution as recorded, and how they differ on disk.

    ``path`` is relative to the folder that the distribution is installed in. Raises ``ValueError``
    where there is no record, or where it is malformed.
    """
    root = each.info.parent
    for path, recorded_hash, recorded_size in _record(each.info):
        known = {"path": path, "hash": recorded_hash, **_on_disk(root / path, recorded_size)}
        if verify_hashes and recorded_hash and "missing" not in known:
            known["modified"] = known.get("modified") or _differs(root / path, recorded_hash)
        yield {name: value for name, value in known.items() if value not in (None, False)}


def _record(info: Path) -> Iterator[tuple[str, str | None, int | None]]:
    text = PathDistribution(info).read_text("RECORD")
    if text is None:
        yield from _egg_files(info)
        return
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row:
            continue
        if len(row) < 3 or not row[0]:
            raise ValueError(f"{info.name}/RECORD, line {number} is not of the form path,hash,size")
        size = int(row[2]) if row[2] else None
        yield row[0].replace("\\", "/"), row[1] or None, size


def _egg_files(info: Path) -> Iterator[tuple[str, str | None, int | None]]:
    text = PathDistribution(info).read_text("installed-files.txt")
    if text is None:
        raise ValueError(f"{info.name} has no RECORD, so its files are not known")
    for line in text.splitlines():
        if line:
            path = os.path.normpath(os.path.join(info.name, line))
            yield path.replace("\\", "/"), None, None


def _on_disk(path: Path, recorded_size: int | None) -> dict[str, Any]:
    try:
        size = os.stat(path).st_size
    except (OSError, ValueError):
        return {"size_bytes": recorded_size, "missing": True}
    return {"size_bytes": size, "modified": recorded_size is not None and size != recorded_size}


def _differs(path: Path, recorded: str) -> bool:
    name, _, expected = recorded.partition("=")
    if name not in _HASHES:
        return False
    try:
        with path.open("rb") as file:
            actual = hashlib.file_digest(file, name).digest()
    except OSError:
        return False
    return base64.urlsafe_b64encode(actual).decode().rstrip("=") != expected.rstrip("=")


def is_bytecode(path: str) -> bool:
    """Say whether a file is compiled from another, and so no fact of its own."""
    return path.endswith((".pyc", ".pyo"))
