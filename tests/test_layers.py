"""Imports between rooms go one way, and what runs bundles imports neither torch nor onnx."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import paraexport

ROOT = Path(paraexport.__file__).parent
ROOMS = (
    "errors",
    "findings",
    "timing",
    "system",
    "model",
    "images",
    "checkpoint",
    "graph",
    "trace",
    "rewrite",
    "targets",
    "precision",
    "bundle",
    "page",
    "engine",
    "checks",
    "pipeline",
    "optimizer",
    "bench",
    "cli",
    "__init__",
    "__main__",
)
"""A room imports itself and rooms above it in this list."""
BUILD_ONLY = {"torch", "onnx", "onnx_ir", "onnxscript"}
BUILDS = {"checkpoint", "graph", "trace", "rewrite", "precision", "checks/bisection"}
BUILDS |= {
    "model/reference.py",
    "model/taps.py",
    "model/branch_worth.py",
    "checks/locate.py",
    "targets/ort/probe.py",
    "optimizer",
}
"""Rooms and modules that may import torch and onnx at once; all others do so inside functions, or never."""
SOURCES = sorted(file.relative_to(ROOT) for file in ROOT.rglob("*.py"))


def room_of(source: Path) -> str:
    return source.parts[0].removesuffix(".py")


def imports(source: Path, *, at_run_time: bool) -> Iterator[str]:
    """Dotted names that a file imports, those under TYPE_CHECKING left out; lazy ones as well unless `at_run_time`."""
    tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if at_run_time and isinstance(node, ast.FunctionDef):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending.extend(ast.iter_child_nodes(node))


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_a_room_imports_only_rooms_above_it(source: Path) -> None:
    room = room_of(source)
    assert room in ROOMS, f"give {room} a place in ROOMS"
    above = {*ROOMS[: ROOMS.index(room)], room}
    used = {name.split(".")[1] for name in imports(source, at_run_time=False) if name.startswith("paraexport.")}
    assert not (used & {*ROOMS}) - above


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_only_what_builds_imports_torch_and_onnx_when_it_is_imported(source: Path) -> None:
    parts = {source.as_posix(), *(parent.as_posix() for parent in source.parents)}
    if not parts & BUILDS:
        assert not {name.split(".")[0] for name in imports(source, at_run_time=True)} & BUILD_ONLY
