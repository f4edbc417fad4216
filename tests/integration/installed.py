"""Distributions on disk, as an installer leaves them."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path


def install(
    site: Path, name: str, version: str = "1.0", *headers: str, files: dict[str, str] | None = None
) -> Path:
    """Write a distribution as an installer would; returns its dist-info."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    metadata = "\n".join(
        ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers]
    )
    (info / "METADATA").write_text(metadata + "\n\nA description.\n")
    (info / "INSTALLER").write_text("pip\n")
    record = []
    for path, text in (files or {f"{name}.py": "x = 1\n"}).items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        record.append(f"{path},sha256={digest.rstrip('=')},{len(text)}")
    (info / "RECORD").write_text("\n".join([*record, f"{info.name}/RECORD,,"]) + "\n")
    return info
