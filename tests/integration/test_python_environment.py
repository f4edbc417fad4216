"""Cataloguing Python environments on disk: the tests' own, and folders in every state."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from penstock.batch.collected import Collected, collect
from penstock.batch.rows import Kind
from penstock.batch.scope import Completeness
from penstock.errors import PenstockError
from penstock.identity.canonical import canonical_text
from resources.sources.errors import SourceUnavailable
from resources.sources.python_environment import python_environment
from tests.integration.installed import install

RELATIONSHIP = Kind.RELATIONSHIP


def catalog(*sites: Path, **options: Any) -> Collected:
    return collect(python_environment("tools", path=sites, **options))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return folder


def test_the_running_environment_is_the_default() -> None:
    """What the import system finds is found, thousands of files with it, and every end of every edge is there."""
    found = collect(python_environment("python_environment"))
    installed = {dist.metadata["Name"].lower() for dist in importlib.metadata.distributions()}
    assert {"dagster", "pyarrow", "pytest"} <= installed
    assert {"python/dagster", "python/pyarrow", "python/pytest"} <= found.keys("distribution")
    assert len(found.keys("distribution")) == len(installed)
    assert len(found.keys("file")) > 10_000
    assert ("python/dagster", "python/sqlalchemy") in found.edges("requires")
    point = found.entities["entry_point", "python/pytest/entry_point:console_scripts,pytest"]
    assert point["group"] == "console_scripts"
    assert found.dangling() == set()
    assert found.absence_deletes("file", "python/dagster/dagster/gone.py")
    for attributes in [*found.entities.values(), *found.relationships.values()]:
        canonical_text(attributes)


def test_a_distribution_tells_what_its_metadata_says(site: Path) -> None:
    """Names are normalised in keys and kept as written in attributes."""
    info = install(
        site,
        "Big.Tool_Box",
        "2.1",
        "Summary: Tools",
        "License-Expression: MIT",
        "Classifier: License :: OSI Approved :: MIT License",
        "Classifier: Topic :: Software Development",
        "Requires-Python: >=3.11",
        "Provides-Extra: fast",
    )
    (info / "REQUESTED").touch()
    url = {"url": "https://me:token@index.example/tool.git", "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(url))
    found = catalog(site)
    attributes = found.entities["distribution", "python/big-tool-box"]
    assert attributes == {
        "name": "Big.Tool_Box",
        "version": "2.1",
        "summary": "Tools",
        "license_expression": "MIT",
        "license_classifiers": ["License :: OSI Approved :: MIT License"],
        "requires_python": ">=3.11",
        "extras": ["fast"],
        "installer": "pip",
        "requested": True,
        "direct_url": {**url, "url": "https://index.example/tool.git"},
        "editable": True,
    }


def test_requirements_are_edges_with_whether_they_are_satisfied(site: Path) -> None:
    """Several requirements on one distribution are one edge; those of extras are optional."""
    install(
        site,
        "app",
        "1.0",
        "Provides-Extra: web",
        "Requires-Dist: Lib>=2; python_version >= '3'",
        "Requires-Dist: lib[fast]; extra == 'web'",
        "Requires-Dist: old<1",
        "Requires-Dist: absent>1",
        "Requires-Dist: optional-absent; extra == 'web'",
        "Requires-Dist: other-platform; sys_platform == 'plan9'",
        "Requires-Dist: ???",
    )
    install(site, "lib", "2.5")
    install(site, "old", "1.5")
    found = catalog(site)
    assert found.edges("requires") == {("python/app", "python/lib"), ("python/app", "python/old")}
    assert found.relationships["python/app", "requires", "python/lib"] == {
        "requirements": [
            {
                "specifier": ">=2",
                "marker": 'python_version >= "3"',
                "satisfied": True,
                "optional": False,
            },
            {
                "extras": ["fast"],
                "marker": 'extra == "web"',
                "optional_for": ["web"],
                "satisfied": True,
                "optional": True,
            },
        ],
        "optional": False,
        "satisfied": True,
    }
    assert found.relationships["python/app", "requires", "python/old"]["satisfied"] is False
    unmet = found.entities["distribution", "python/app"]["unmet_requirements"]
    assert unmet == ["old<1", "absent>1", "???"]


def test_changes_on_disk_are_seen_at_once(site: Path) -> None:
    """Installing, upgrading, editing and removing show in the next extract of the same process."""
    install(site, "app", "1.0", "Requires-Dist: lib>=2")
    lib = install(site, "lib", "1.0", files={"lib.py": "x = 1\n", "lib_extra.py": ""})
    first = catalog(site)
    assert first.entities["distribution", "python/app"]["unmet_requirements"] == ["lib>=2"]

    for path in [*lib.iterdir(), lib, site / "lib_extra.py"]:
        path.rmdir() if path.is_dir() else path.unlink()
    install(site, "lib", "2.0", files={"lib.py": "x = 2\n"})
    (site / "app.py").write_text("something longer\n")
    second = catalog(site)
    assert second.entities["distribution", "python/lib"]["version"] == "2.0"
    assert "unmet_requirements" not in second.entities["distribution", "python/app"]
    assert second.entities["file", "python/app/app.py"]["modified"] is True
    gone = first.entities.keys() - second.entities.keys()
    assert ("file", "python/lib/lib_extra.py") in gone
    assert all(second.absence_deletes(*name) for name in gone)


def test_files_tell_size_and_hash_and_how_they_differ(site: Path) -> None:
    """A missing file and one of another size are marked; a same-sized edit needs the hashes verified."""
    install(site, "app", files={"app/a.py": "1\n", "app/b.py": "2\n", "app/c.py": "3\n"})
    (site / "app/a.py").unlink()
    (site / "app/b.py").write_text("two\n")
    (site / "app/c.py").write_text("4\n")
    found = catalog(site)
    assert found.entities["file", "python/app/app/a.py"]["missing"] is True
    assert found.entities["file", "python/app/app/b.py"]["modified"] is True
    assert found.entities["file", "python/app/app/b.py"]["size_bytes"] == 4
    c = found.entities["file", "python/app/app/c.py"]
    assert c["hash"].startswith("sha256=")
    assert "modified" not in c
    verified = catalog(site, verify_hashes=True)
    assert verified.entities["file", "python/app/app/c.py"]["modified"] is True


def test_files_outside_and_bytecode(site: Path) -> None:
    """A script outside of the folder keeps a key below its distribution; bytecode is left out and counted."""
    files = {"app.py": "", "../bin/app": "#!", "__pycache__/app.cpython-311.pyc": "x"}
    install(site, "app", files=files)
    found = catalog(site)
    assert found.keys("file") == {
        "python/app/app.py",
        "python/app/%2E%2E/bin/app",
        "python/app/app-1.0.dist-info/RECORD",
    }
    assert found.filtered[Kind.ENTITY, "file"] == 1


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (None, "app-1.0.dist-info has no RECORD"),
        ("app.py\n", "RECORD, line 1 is not of the form path,hash,size"),
        ("app.py,,many\n", "invalid literal for int"),
    ],
)
def test_a_broken_record_costs_only_the_distributions_own_files(
    site: Path, record: str | None, reason: str
) -> None:
    """The distribution is still listed, and so are all others with their files."""
    info = install(site, "app")
    install(site, "lib")
    (info / "RECORD").unlink()
    if record is not None:
        (info / "RECORD").write_text(record)
    found = catalog(site)
    assert found.keys("distribution") == {"python/app", "python/lib"}
    assert found.completeness("file", "python/app/app.py") is Completeness.FAILED
    assert any(reason in str(scope.reason) for scope in found.scopes)
    assert found.absence_deletes("file", "python/lib/gone.py")
    assert found.absence_deletes("distribution", "python/gone")


@pytest.mark.parametrize("metadata", [None, b"\xff\xfe broken", b"Summary: nameless\n"])
def test_broken_metadata_leaves_what_the_file_name_tells(
    site: Path, metadata: bytes | None
) -> None:
    """Name and version are known from the folder; what it requires is not, so none of that is deleted."""
    info = install(site, "My_App", "3.2")
    (info / "METADATA").unlink()
    if metadata is not None:
        (info / "METADATA").write_bytes(metadata)
    found = catalog(site)
    attributes = found.entities["distribution", "python/my-app"]
    assert (attributes["name"], attributes["version"]) == ("My_App", "3.2")
    assert "My_App-3.2.dist-info" in attributes["metadata_error"]
    how = found.completeness("requires", "python/my-app", kind=RELATIONSHIP)
    assert how is Completeness.FAILED
    assert "python/my-app/My_App.py" in found.keys("file")


def test_malformed_entry_points_cost_only_the_distributions_parts(site: Path) -> None:
    """They cannot be enumerated, so their absence proves nothing."""
    info = install(site, "app")
    (info / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")
    found = catalog(site)
    point = "python/app/entry_point:console_scripts,app"
    assert found.completeness("entry_point", point) is Completeness.FAILED
    assert found.keys("distribution") == {"python/app"}


def test_the_first_of_a_name_wins_and_the_others_are_counted(tmp_path: Path) -> None:
    """As on the import path; leftovers of an interrupted pip are no distributions at all."""
    install(tmp_path / "a", "app", "2.0")
    install(tmp_path / "b", "App", "1.0")
    install(tmp_path / "b", "~pp", "1.0")
    found = catalog(tmp_path / "a", tmp_path / "b")
    assert found.entities["distribution", "python/app"]["version"] == "2.0"
    assert found.keys("distribution") == {"python/app"}
    assert found.filtered[Kind.ENTITY, "distribution"] == 1
    assert found.entities["environment", "python"]["duplicates"] == ["app"]


def test_a_folder_that_cannot_be_listed_proves_no_absence(site: Path, tmp_path: Path) -> None:
    """What is in the others is listed; when none can be read, there is no batch."""
    install(site, "app", "1.0", "Requires-Dist: elsewhere")
    found = catalog(site, tmp_path / "gone")
    assert found.keys("distribution") == {"python/app"}
    assert found.completeness("distribution", "python/elsewhere") is Completeness.FAILED
    assert "unmet_requirements" not in found.entities["distribution", "python/app"]
    with pytest.raises(SourceUnavailable, match="gone: No such file or directory"):
        catalog(tmp_path / "gone")


def test_eggs_are_distributions_too(site: Path) -> None:
    """An egg-info folder tells its files and requirements in its own way."""
    info = site / "old_app-1.0.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 1.1\nName: old-app\nVersion: 1.0\n")
    (info / "requires.txt").write_text("lib>=1\n")
    (info / "installed-files.txt").write_text("../old_app.py\nPKG-INFO\n")
    (site / "old_app.py").write_text("")
    install(site, "lib")
    found = catalog(site)
    assert ("python/old-app", "python/lib") in found.edges("requires")
    assert {
        "python/old-app/old_app.py",
        "python/old-app/old_app-1.0.egg-info/PKG-INFO",
    } <= found.keys("file")


def test_settings_may_be_given_for_one_run(site: Path, tmp_path: Path) -> None:
    """A run may look elsewhere; a setting that does not exist is an error."""
    install(site, "app")
    source = python_environment("tools")
    found = collect(source, settings={"path": str(site), "name": "tools"})
    assert found.keys("distribution") == {"tools/app"}
    with pytest.raises(PenstockError, match="no setting 'pth'"):
        collect(source, settings={"pth": str(site)})
