"""Reads ONNX files, and writes such as are valid and self-contained."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from paraexport.errors import InputError, ParaexportError, TraceError, lack_of_memory, on_one_line
from paraexport.plain_paths import plain

PROTOBUF_LIMIT_BYTES = 2**31 - 1
INVALID = "not valid ONNX"
REMEDY = "export it again, or copy it again"
MOST_CHARACTERS = 300


def load(path: Path) -> ir.Model:
    """The graph at `path`; what it says of the domain `ai.onnx` is said of "", which is the same one.

    Raises:
        InputError: it is damaged, or holds something that onnx_ir does not read, such as a sparse tensor.
    """
    try:
        model = ir.load(path)
    except OSError:
        raise
    except Exception as error:  # each library has classes of its own
        raise unreadable(error, path) from error
    return with_plain_domain(model)


def with_plain_domain(model: ir.Model) -> ir.Model:
    if (version := model.opset_imports.pop("ai.onnx", None)) is not None:
        model.opset_imports.setdefault("", version)
    return model


def unreadable(error: Exception, path: Path) -> ParaexportError:
    """What a library says of the file at `path`, as an error of ours."""
    cause = innermost(error)
    if isinstance(cause, UnicodeError):
        said = "a message of a library that is no UTF-8"
    else:
        said = on_one_line(str(cause).partition(". ")[0])[:MOST_CHARACTERS] or type(cause).__name__
    if isinstance(cause, NotImplementedError):
        return InputError("cannot be read", where=path, got=said, remedy="export it without that")
    return lack_of_memory(error, path, "free memory") or InputError(INVALID, where=path, got=said, remedy=REMEDY)


def innermost(error: BaseException) -> BaseException:
    """What began a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def save(model: ir.Model, path: Path, *, external_data_above_bytes: int = PROTOBUF_LIMIT_BYTES) -> None:
    """Write `model` to `path` and check it, shapes included.

    Weights beyond `external_data_above_bytes` go to `path` + `.data`, since one protobuf file holds at most 2 GiB.

    Raises:
        TraceError: the graph is not valid ONNX.
    """
    weights_bytes = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    beside = f"{path.name}.data" if weights_bytes > external_data_above_bytes else None
    if beside is None:
        # What a file elsewhere holds would else stay there.
        ir.external_data.load_to_model(model)
    ir.save(model, path, external_data=beside)
    try:
        onnx.checker.check_model(plain(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        got = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        raise TraceError("the graph is not valid ONNX", where=path.name, got=got) from error
