"""The repository as these tests read it: files and syntax trees, never imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "penstock",
    "resources",
    "platform_assets",
    "jobs",
    "sensors",
    "control_plane",
    "benchmarks",
)


@dataclass(frozen=True)
class Module:
    """One Python file."""

    path: Path

    @property
    def name(self) -> str:
        """Its path below the root, for messages."""
        return str(self.path.relative_to(ROOT))

    @property
    def dotted(self) -> str:
        """The name that it is imported by."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def text(self) -> str:
        """Its source."""
        return self.path.read_text(encoding="utf-8")

    @property
    def tree(self) -> ast.Module:
        """Its syntax tree."""
        return _parsed(self.path)


@cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules(*folders: str) -> list[Module]:
    """Return every module under some folders of the root, by path."""
    return [Module(path) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported(module: Module, *, top: bool = False) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of whatever a module imports, anywhere in it or only at its top level."""
    for node in module.tree.body if top else ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def definitions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Yield the qualified name and node of every function, method and class; not of what is inside functions."""

    def walk(
        body: list[ast.stmt], prefix: str
    ) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                yield prefix + node.name, node
            elif isinstance(node, ast.ClassDef):
                yield prefix + node.name, node
                yield from walk(node.body, f"{prefix}{node.name}.")

    return walk(module.tree.body, "")
