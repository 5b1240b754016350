"""Reads ONNX files, writes and checks them, and decides which weights go to a second file.

One protobuf message holds at most 2 GiB, in a file and in memory. Larger weights go to a second file,
`model.onnx.data`. No code may serialise such a graph with its weights; use `without_weights` instead.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from pathlib import Path

import onnx
import onnx_ir as ir

from paraexport.errors import InputError, ParaexportError, TraceError, lack_of_memory, on_one_line
from paraexport.system.memory import give_back
from paraexport.system.plain_paths import plain

INVALID = "not valid ONNX"
REMEDY = "export it again, or copy it again"
MOST_CHARACTERS = 300
MOST_WEIGHTS_BYTES = 2**31 - 2**27
"""The largest weights that stay in one file, beside 128 MiB for nodes, names and shapes. Tests may lower it."""
SMALL_BYTES = 256
"""Tensors up to this size, such as the target of a Reshape, stay in the graph, because shape inference reads them."""
ALIGNMENT_BYTES = 4096
"""Each tensor of a data file begins at a multiple of this size, so numbers in a mapped file are aligned."""
BESIDE = "weights"


def load(path: Path) -> ir.Model:
    """The graph at `path`. The domain `ai.onnx` is renamed to "", which is the same domain.

    Weights in another file are mapped and read when they are used, so the file must stay.

    Raises:
        InputError: the file is damaged, or has something that onnx_ir cannot read, such as a sparse tensor.
    """
    try:
        model = ir.load(path)
    except OSError:
        raise
    except Exception as error:  # each library has its own classes
        raise unreadable(error, path) from error
    return with_plain_domain(model)


def read_opset(path: Path) -> int:
    """The opset of ONNX that the model at `path` uses."""
    model = onnx.load(path, load_external_data=False)
    return next(opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx"))


def with_plain_domain(model: ir.Model) -> ir.Model:
    if (version := model.opset_imports.pop("ai.onnx", None)) is not None:
        model.opset_imports.setdefault("", version)
    give_back(weights_bytes(model.graph))
    return model


def unreadable(error: Exception, path: Path) -> ParaexportError:
    """The error of a library about the file at `path`, as a paraexport error."""
    cause = root_cause(error)
    if isinstance(cause, UnicodeError):
        message = "an error message that is not UTF-8"
    else:
        message = on_one_line(str(cause).partition(". ")[0])[:MOST_CHARACTERS] or type(cause).__name__
    if isinstance(cause, NotImplementedError):
        return InputError("cannot be read", where=path, got=message, remedy="export it without that")
    return lack_of_memory(error, path, "free memory") or InputError(INVALID, where=path, got=message, remedy=REMEDY)


def root_cause(error: BaseException) -> BaseException:
    """The first error of a chain of errors."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def weights_bytes(graph: ir.Graph) -> int:
    return sum(value.const_value.nbytes for value in graph.initializers.values() if value.const_value is not None)


def fits_one_file(graph: ir.Graph) -> bool:
    return weights_bytes(graph) <= MOST_WEIGHTS_BYTES


def save(model: ir.Model, path: Path, *, apart: bool = False) -> None:
    """Write `model` to `path` and check it, shapes included.

    Weights that do not fit into one file go to `path` + `.data`. With `apart`, all weights go there.

    Raises:
        TraceError: the graph is not valid ONNX.
    """
    beside = f"{path.name}.data" if apart or not fits_one_file(model.graph) else None
    if beside is None:
        # Else, weights in another file would stay there.
        ir.external_data.load_to_model(model)
    ir.save(model, path, external_data=beside, alignment=ALIGNMENT_BYTES, align_threshold=0)
    check(path)


def check(path: Path) -> None:
    """Check the model at `path`, shapes included.

    Raises:
        TraceError: the graph is not valid ONNX.
    """
    try:
        onnx.checker.check_model(plain(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TraceError("the graph is not valid ONNX", where=path.name, got=first_line(error)) from error


def first_line(error: BaseException) -> str:
    """The class of an error and the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def without_weights(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """(the graph with a reference instead of each large weight, the weights by name). `model` does not change.

    The references do not say where the weights are. So equal graphs give equal bytes.
    """
    values = {
        name: value
        for name, value in model.graph.initializers.items()
        if value.const_value is not None and value.const_value.nbytes > SMALL_BYTES and is_plain(value.const_value)
    }
    weights = {name: value.const_value for name, value in values.items() if value.const_value is not None}
    try:
        for name, tensor in weights.items():
            values[name].const_value = reference(tensor, name)
        return ir.to_proto(model), weights
    finally:
        for name, tensor in weights.items():
            values[name].const_value = tensor


def is_plain(tensor: ir.TensorProtocol) -> bool:
    """Whether each element is a number of whole bytes."""
    return tensor.dtype != ir.DataType.STRING and tensor.dtype.bitwidth >= 8


def reference(tensor: ir.TensorProtocol, name: str) -> ir.ExternalTensor:
    shape = ir.Shape([*tensor.shape.numpy()])
    return ir.ExternalTensor(BESIDE, 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)


def forget_pages(tensors: Iterable[ir.TensorProtocol]) -> None:
    """Release the memory of weights that come from mapped files. They are read again when needed."""
    for tensor in tensors:
        if isinstance(tensor, ir.ExternalTensor) and tensor.raw is not None and hasattr(mmap, "MADV_DONTNEED"):
            tensor.raw.madvise(mmap.MADV_DONTNEED)
