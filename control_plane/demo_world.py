"""The part of the world that the demo may change: a folder of installed packages, and a database of its own."""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path


class DemoWorld:
    """A site-packages folder that the demo installs into, and a copy of a real database that it alters."""

    def __init__(self, folder: Path) -> None:
        self.site_packages = folder / "site-packages"
        self.database = folder / "catalogued.db"
        self.site_packages.mkdir(parents=True)

    def first(self, database: Path) -> None:
        """Install two packages, and take a copy of a real SQLite database."""
        self._install("penstock-demo-reports", "1.0", {"reports.py": "TITLE = 'first'\n"})
        self._install("penstock-demo-legacy", "0.9", {"legacy.py": "OLD = True\n"})
        with (
            closing(sqlite3.connect(database)) as real,
            closing(sqlite3.connect(self.database)) as copy,
        ):
            real.backup(copy)

    def change(self) -> list[str]:
        """Change packages and database for real; returns what was done, in words."""
        self._remove("penstock-demo-legacy", "0.9", "legacy.py")
        self._remove("penstock-demo-reports", "1.0", "reports.py")
        files = {"reports.py": "TITLE = 'second'\n", "charts.py": "COLOURS = 8\n"}
        self._install("penstock-demo-reports", "2.0", files)
        done = [
            "package penstock-demo-reports upgraded from 1.0 to 2.0, with one more file",
            "package penstock-demo-legacy uninstalled",
        ]
        return done + self._alter()

    def _alter(self) -> list[str]:
        with closing(sqlite3.connect(self.database)) as connection:
            names = [
                row[0]
                for row in connection.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' "
                    "AND name NOT LIKE 'alembic%' AND sql LIKE '%NULL%' ORDER BY name"
                )
            ]
            gone, altered = names[0], names[1]
            connection.execute(f'ALTER TABLE "{altered}" ADD COLUMN reviewed_by TEXT')
            connection.execute(f'CREATE VIEW reviewed AS SELECT reviewed_by FROM "{altered}"')
            connection.execute(f'DROP TABLE "{gone}"')
            connection.commit()
        return [
            f"table {altered} altered: one more column",
            f"view reviewed created over {altered}",
            f"table {gone} dropped",
        ]

    def _install(self, name: str, version: str, files: Mapping[str, str]) -> None:
        """Lay a distribution out as an installer does."""
        info = self.site_packages / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: Installed by the demo\n"
            "License: Apache-2.0\nRequires-Dist: pydantic>=2\n"
        )
        (info / "INSTALLER").write_text("penstock-demo\n")
        lines = []
        for path, content in files.items():
            (self.site_packages / path).write_text(content)
            digest = urlsafe_b64encode(hashlib.sha256(content.encode()).digest()).rstrip(b"=")
            lines.append(f"{path},sha256={digest.decode()},{len(content)}")
        lines += [f"{info.name}/{file},," for file in ("METADATA", "INSTALLER", "RECORD")]
        (info / "RECORD").write_text("\n".join(lines) + "\n")

    def _remove(self, name: str, version: str, file: str) -> None:
        shutil.rmtree(self.site_packages / f"{name.replace('-', '_')}-{version}.dist-info")
        (self.site_packages / file).unlink()
