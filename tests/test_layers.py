"""Imports run downwards only, a stage never imports another, and what runs bundles imports neither torch nor onnx."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import paraexport

ROOT = Path(paraexport.__file__).parent
ORDER = (
    ("errors",),
    ("profiles", "files", "cpus", "plain_paths"),
    ("spec", "compilation", "faults", "limits", "memory"),
    ("records",),
    (
        *("taps", "clock", "contest", "preprocess", "onnx_screen", "onnx_file", "memory_bound", "claim", "folder"),
        *("own_process", "scores"),
    ),
    ("numpy_files",),
    ("arrays", "attention", "paraformer", "graph_names", "shards", "onnx_outside", "isolation", "endings"),
    ("dataset", "bundle", "onnx_summary", "settle_scores", "variety", "class_order"),
    ("golden", "targets"),
    ("probe",),
    ("checkpoint", "trace", "rewrite", "locate", "validate", "engine", "cache", "choose", "report_page"),
    ("report", "options", "onnx_input", "onnx_output", "onnx_contents", "self_check", "precision"),
    ("ahead", "inputs", "drafts", "optimize_process", "free_batch"),
    ("bisection", "image_evidence"),
    ("pipeline", "revalidate", "optimize"),
    ("cli",),
    ("__init__", "__main__"),
)
"""From the bottom up; a part may import those of lower rows, and inside itself."""
RANK = {part: rank for rank, row in enumerate(ORDER) for part in row}
BUILD_ONLY = {"torch", "onnx", "onnx_ir", "onnxscript"}
MAY_IMPORT_BUILD_ONLY = {
    "taps",
    "attention",
    "bisection",
    "endings",
    "paraformer",
    "graph_names",
    "checkpoint",
    "trace",
    "locate",
    "free_batch",
    "onnx_contents",
    "onnx_screen",
    "onnx_outside",
    "onnx_file",
    "onnx_input",
    "optimize",
    "precision",
    "probe",
    "rewrite",
}
SOURCES = sorted(file.relative_to(ROOT) for file in ROOT.rglob("*.py"))


def part_of(source: Path) -> str:
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
def test_every_part_has_its_place_and_imports_from_below(source: Path) -> None:
    part = part_of(source)
    assert part in RANK, f"give {part} a place in ORDER"
    if part == "__init__":
        return
    for name in imports(source, at_run_time=False):
        steps = name.split(".")
        other = steps[1] if steps[0] == "paraexport" and len(steps) > 1 else None
        if other in RANK and other != part:
            assert RANK[other] < RANK[part], f"{source} imports {name}"


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_only_the_stages_of_a_build_import_torch_and_onnx_when_they_are_imported(source: Path) -> None:
    if part_of(source) not in MAY_IMPORT_BUILD_ONLY:
        assert not {name.split(".")[0] for name in imports(source, at_run_time=True)} & BUILD_ONLY
