"""Checks that no part of a `torch.export` archive is code.

`torch.export.load` unpickles some payloads, evaluates symbolic expressions as Python, generates Python from names, and
links compiled libraries. So this module compares every part with a list of allowed forms. It uses the same archive
reader, and the same bytes that are loaded afterwards.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from torch.export.pt2_archive import PT2ArchiveReader

from paraexport.checkpoint.bounds import UnpackedSize
from paraexport.checkpoint.torch_file import load_safely
from paraexport.errors import CheckpointError

MODEL = "models/model.json"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
ENTRIES = re.compile(
    r"models/model\.json|data/weights/weight_\d+|data/constants/tensor_\d+|data/sample_inputs/model\.pt|extra/.*"
    r"|archive_format|archive_version|byteorder|\.data/.*|\.format_version|\.storage_alignment"
)
NAME = re.compile(r"[\w.:]*", re.ASCII)
OPERATOR = re.compile(
    r"torch\.ops\.aten\.(?!from_file)\w+\.\w+|torch\.ops\.higher_order\.wrap_with_set_grad_enabled"
    r"|torch\.sym_\w+|math\.(?:trunc|ceil|floor|sqrt)"
    r"|_operator\.(?:getitem|add|sub|mul|truediv|floordiv|mod|neg|pos|eq|ne|lt|le|gt|ge|and_|or_|not_)"
)
SYMBOLS = re.compile(r"[a-z]+\d+")
FUNCTIONS = frozenset({
    "Integer", "Rational", "Add", "Mul", "FloorDiv", "Mod", "PythonMod", "CleanDiv", "CeilDiv", "Max", "Min", "And",
    "Or", "Not", "Eq", "Ne", "Gt", "Ge", "Lt", "Le", "Equality", "Unequality", "GreaterThan", "LessThan",
    "StrictGreaterThan", "StrictLessThan",
})  # fmt: skip
TRUE_OR_FALSE = ("true", "false")
OPERATORS = (ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.Compare)
COSTLY = (ast.Pow, ast.LShift)
"""A few of these operators can make a number that is larger than the memory."""
LONGEST_EXPRESSION = 2000
"""In characters; sympy can take minutes for a longer one."""
FREE_TEXT = frozenset({"metadata", "torch_version", "as_string", "as_strings"})
"""Fields that are never evaluated: comments, and strings that become quoted arguments."""


def screen(data: bytes) -> Iterator[str]:
    """List everything in the archive that is not known to be harmless. A broken archive raises any exception."""
    archive = PT2ArchiveReader(io.BytesIO(data))
    names = archive.get_file_names()
    unpacked = UnpackedSize(len(data))
    for name in names:
        unpacked.add(archive.archive_file.get_record_size(name))
    yield from (f"entry {name!r}" for name in names if name not in CONFIGS and not ENTRIES.fullmatch(name))
    records = {name: json.loads(archive.read_string(name)) for name in (MODEL, *CONFIGS)}
    samples = archive.read_bytes("data/sample_inputs/model.pt")
    for name in CONFIGS:
        problems = list(payload_problems(records[name]))
        yield from problems
        if not problems:
            count_payloads(records[name]["config"], unpacked)
        if not problems and (empty := empty_payloads(archive, PurePosixPath(name).parent, records[name]["config"])):
            raise ValueError(f"the tensor {empty[0]} has no bytes")
    yield from model_problems(records[MODEL], "")
    if samples:
        try:
            load_safely(io.BytesIO(samples))
        except CheckpointError as error:
            yield f"example inputs ({error.what})"


def empty_payloads(archive: PT2ArchiveReader, folder: PurePosixPath, config: dict[str, Any]) -> list[str]:
    """The tensors that have a size but no bytes. torch would read them as zeros."""
    return [
        name
        for name, payload in config.items()
        if not archive.read_bytes(f"{folder}/{payload['path_name']}")
        and {"as_int": 0} not in (payload.get("tensor_meta") or {}).get("sizes", [])
    ]


def count_payloads(config: dict[str, Any], unpacked: UnpackedSize) -> None:
    """Raise a CheckpointError if the tensors have more numbers than the file can hold."""
    for payload in config.values():
        sizes = [size["as_int"] for size in (payload.get("tensor_meta") or {}).get("sizes", [])]
        unpacked.add_tensor(sizes)


def payload_problems(record: Any) -> Iterator[str]:
    config = record.get("config") if isinstance(record, dict) else None
    if not isinstance(config, dict):
        yield "payloads that are no mapping"
        return
    for name, payload in config.items():
        plain = isinstance(payload, dict) and payload.get("use_pickle") is False
        if not plain or not re.fullmatch(r"(weight|tensor)_\d+", str(payload.get("path_name"))):
            yield f"pickled or custom object {name!r}"
        elif not NAME.fullmatch(name):
            yield f"name {name!r}"
        else:
            yield from model_problems(payload.get("tensor_meta"), "tensor_meta")


def model_problems(record: Any, key: str) -> Iterator[str]:
    """Walk through the JSON of the program, and check expressions, operators, trees and names."""
    if key in FREE_TEXT:
        return
    if isinstance(record, dict):
        for name, value in record.items():
            # the target of a node in the graph is an operator; other targets are names
            operator = name == "target" and "inputs" in record
            yield from operator_problems(value) if operator else entry_problems(name, value)
    elif isinstance(record, list):
        for item in record:
            yield from model_problems(item, key)
    elif isinstance(record, str):
        yield from string_problems(record, key)


def entry_problems(name: str, value: Any) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"name {name!r}"
    elif name in ("as_custom_obj", "custom_obj_values", "custom_obj") and value:
        yield "a custom object"
    elif name != "guards_code":  # loaded as a list of strings, and never compiled without guards
        yield from model_problems(value, name)


def string_problems(text: str, key: str) -> Iterator[str]:
    if key == "expr_str":
        yield from expression_problems(text)
    elif key == "as_operator":
        yield from operator_problems(text)
    elif key in ("in_spec", "out_spec"):
        yield from tree_problems(text)
    elif not NAME.fullmatch(text):
        yield f"name {text[:80]!r}"


def operator_problems(target: object) -> Iterator[str]:
    if not isinstance(target, str) or not OPERATOR.fullmatch(target):
        yield f"operator {target!r}"


def expression_problems(text: str) -> Iterator[str]:
    """Check a size such as `Mul(Integer(2), Symbol('s0', positive=True))` or `2*s0`: sympy evaluates it as Python."""
    if len(text) > LONGEST_EXPRESSION:
        yield f"an expression of {len(text)} characters"
        return
    try:
        plain = is_size(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        plain = False
    if not plain:
        yield f"expression {text[:80]!r}"


def is_size(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    if isinstance(node, ast.Name):
        return node.id in TRUE_OR_FALSE or bool(SYMBOLS.fullmatch(node.id))
    if isinstance(node, OPERATORS):
        parts = list(ast.iter_child_nodes(node))
        return all(is_size(part) if isinstance(part, ast.expr) else not isinstance(part, COSTLY) for part in parts)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return False
    if node.func.id == "Symbol":
        return is_symbol(node)
    return node.func.id in FUNCTIONS and not node.keywords and all(is_size(argument) for argument in node.args)


def is_symbol(node: ast.Call) -> bool:
    """Whether this is a call such as `Symbol('s0', positive=True, integer=True)`."""
    match node.args:
        case [ast.Constant(value=str(name))] if SYMBOLS.fullmatch(name):
            values = [keyword.value for keyword in node.keywords if keyword.arg is not None]
            flags = [isinstance(value, ast.Constant) and isinstance(value.value, bool) for value in values]
            return len(flags) == len(node.keywords) and all(flags)
    return False


def tree_problems(text: str) -> Iterator[str]:
    """Check how arguments are nested. Only tuples, lists and dicts are allowed: other types import their class."""
    if not text:
        return
    try:
        _, tree = json.loads(text)
        pending = [tree]
        while pending:
            node = pending.pop()
            context = node["context"]
            if isinstance(context, str):
                context = json.loads(context)
            plain = node["type"] in (None, "builtins.tuple", "builtins.list", "builtins.dict")
            if not plain or not (context is None or all(isinstance(item, str) for item in context)):
                yield f"argument type {node['type']!r}"
                return
            pending += node["children_spec"]
    except (ValueError, TypeError, KeyError):
        yield f"argument tree {text[:80]!r}"
