"""Reads ONNX files of any origin. Every error of a library is reported in one line, as a damaged file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import onnx
import onnx_ir as ir

from paraexport.errors import InputError, lack_of_memory, on_one_line
from paraexport.graph.onnx_file import INVALID, MOST_CHARACTERS, REMEDY, unreadable, with_plain_domain
from paraexport.graph.scopes import name_by_scope
from paraexport.graph.screen import is_external, problems, size_bytes

LARGEST_FILE_BYTES = 2**31 - 1
"""The limit of one protobuf message."""
NOT_ONNX = "not an ONNX model"
MOST_NUMBERS = 2**27
"""The limit for one value: 512 MiB in float32. 1025 tokens in 16 heads have 17 million scores an image; the self-check
runs 7 images at once."""
LARGEST_KEPT_BYTES = 2**16


def most_memory(path: Path, weights_files: Iterable[str] = ()) -> int:
    """The memory in bytes that may be used to read and rewrite the file at `path`.

    It is 2 GiB plus eight times the weights. A limit is needed, because a small file may ask for huge values.
    """
    files = [path, *(path.parent / location for location in weights_files)]
    return 2**31 + 8 * sum(file.stat().st_size for file in files)


def read(path: Path) -> onnx.ModelProto:
    """The checked message in the file. Files of weights are not read.

    Raises:
        InputError: the file is not an ONNX model, or is damaged.
        MissingError: there is not enough memory.
    """
    require_file(path)
    try:
        model = onnx.ModelProto.FromString(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # protobuf's own class, whose module differs between versions
        raise lack_of_memory(error, path, "free memory") or InputError(
            NOT_ONNX, where=path, got=error, remedy=REMEDY
        ) from error
    if model.ir_version > onnx.IR_VERSION:
        expected, got = (
            f"at most {onnx.IR_VERSION}, the newest version that onnx {onnx.__version__} reads",
            model.ir_version,
        )
        remedy = "pip install -U onnx, or export it with an older onnx"
        raise InputError("its IR version is too new", where=path, expected=expected, got=got, remedy=remedy)
    if not model.opset_import or not model.graph.output:
        raise InputError(NOT_ONNX, where=path, expected="a graph with an output and an opset", remedy=REMEDY)
    if (problem := next(problems(model), None)) is not None:
        raise InputError(INVALID, where=path, got=on_one_line(problem)[:MOST_CHARACTERS], remedy=REMEDY)
    name_by_scope(model)
    return model


def require_file(path: Path) -> None:
    """Check that `path` is a readable file whose size is possible for a model.

    Raises:
        InputError: it is not.
    """
    if not path.is_file():
        got = "a folder" if path.is_dir() else "a device or a pipe" if path.exists() else "no such file"
        raise InputError("no ONNX file", where=path, expected="a file", got=got, remedy="check the path")
    try:
        with path.open("rb") as file:
            start, size = file.read(1), os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError("cannot be read", where=path, got=error.strerror, remedy="check its permissions") from error
    if size > LARGEST_FILE_BYTES:
        expected, got = (
            f"at most {LARGEST_FILE_BYTES} bytes; larger weights are in a second file",
            f"{size} bytes",
        )
        raise InputError(NOT_ONNX, where=path, expected=expected, got=got, remedy="check the path")
    if start in (b"", b"\0"):
        got = "zeros" if start else "an empty file"
        raise InputError(NOT_ONNX, where=path, got=got, remedy=REMEDY)


def as_ir(model: onnx.ModelProto, path: Path) -> ir.Model:
    """The model as an onnx_ir graph. Weights in other files are read when they are used.

    Raises:
        InputError: the model has something that onnx_ir cannot read, such as a sparse tensor.
    """
    try:
        graph = ir.serde.deserialize_model(model)
        ir.external_data.set_base_dir(graph.graph, path.absolute().parent)
    except Exception as error:
        raise unreadable(error, path) from error
    return with_plain_domain(graph)


def check_model(model: onnx.ModelProto, path: Path) -> None:
    """Run ONNX's own checks and shape inference, and refuse values that are too large for memory.

    Raises:
        InputError: the model is not valid, or one of its values is too large.
    """
    if model.graph.sparse_initializer:
        name = on_one_line(model.graph.sparse_initializer[0].values.name)
        remedy = "store them as dense tensors"
        raise InputError("sparse initializers are not supported", where=path, got=name, remedy=remedy)
    message = without_weights(model).SerializeToString()
    try:
        onnx.checker.check_model(message)
        inferred = onnx.shape_inference.infer_shapes(message, check_type=True, strict_mode=True)
    except Exception as error:
        raise unreadable(error, path) from error
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim if axis.HasField("dim_value")]
        if math.prod(sizes) > MOST_NUMBERS:
            got = f"{on_one_line(value.name)} of {sizes}"
            expected = f"at most {MOST_NUMBERS:,} numbers in one value for one image"
            raise InputError("it needs too much memory", where=path, expected=expected, got=got, remedy=REMEDY)


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with inputs instead of large initializers. ONNX can check it with little memory."""
    copy = onnx.ModelProto(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    graph = copy.graph
    graph.name = model.graph.name
    for name in ("node", "input", "output", "value_info", "sparse_initializer"):
        getattr(graph, name).extend(getattr(model.graph, name))
    inputs = {value.name for value in graph.input}
    for tensor in model.graph.initializer:
        if not is_external(tensor) and size_bytes(tensor) <= LARGEST_KEPT_BYTES:
            graph.initializer.add().CopyFrom(tensor)
        elif tensor.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return copy


def external_tensors(message: Any) -> Iterator[onnx.TensorProto]:
    """Every tensor whose data is in another file, at any depth of the message."""
    if isinstance(message, onnx.TensorProto):
        if is_external(message):
            yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for entry in [value] if hasattr(value, "ListFields") else value:
                yield from external_tensors(entry)


def external_files(model: onnx.ModelProto, path: Path) -> tuple[str, ...]:
    """The files of weights, relative to the folder of the model at `path`.

    Raises:
        InputError: a file is outside of that folder, is missing, is a link or too short.
    """
    ends: dict[str, tuple[int, str]] = {}
    for tensor in external_tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        end = int(entries.get("offset", "0")) + size_bytes(tensor)
        ends[entries["location"]] = max(ends.get(entries["location"], (0, "")), (end, tensor.name))
    for location, (end, name) in ends.items():
        require_weights(path, location, end, name)
    return tuple(ends)


def require_weights(path: Path, location: str, end: int, name: str) -> None:
    """Check that `location` is a regular file in the folder of the model, with at least `end` bytes."""
    pure = (PurePosixPath(location), PureWindowsPath(location))
    if any(relative.anchor or ".." in relative.parts for relative in pure) or "\0" in location:
        got = f"{location!r}, for {name}"
        expected = "a file in its folder"
        raise InputError(
            "its weights are outside of its folder", where=path, expected=expected, got=got, remedy="export it again"
        )
    place = path.parent / location
    steps = [place, *(folder for folder in place.parents if folder != path.parent and path.parent in folder.parents)]
    if any(step.is_symlink() for step in steps):
        got, remedy = "a symbolic link", "replace it with a copy of the file: cp -L"
    elif not place.is_file():
        got = "a folder, a device or a pipe" if place.exists() else "no such file"
        remedy = "copy the file of weights too"
    elif place.stat().st_nlink > 1:
        got, remedy = f"a file with {place.stat().st_nlink} hard links", "replace it with a separate copy"
    elif (size := place.stat().st_size) < end:
        raise InputError(
            "its weights are cut off",
            where=place,
            expected=f"at least {end} bytes, for {name}",
            got=size,
            remedy="copy the file of weights again",
        )
    elif not os.access(place, os.R_OK):
        got, remedy = "no permission to read it", "check its permissions"
    else:
        return
    raise InputError("no file of weights", where=place, expected=f"a file, for {name}", got=got, remedy=remedy)


def free_negative_sizes(model: onnx.ModelProto) -> bool:
    """Make every axis with a negative length free; some exporters write the batch so. Returns whether there was one."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    axes = [axis for value in values for axis in value.type.tensor_type.shape.dim if axis.dim_value < 0]
    for axis in axes:
        axis.ClearField("value")
    return bool(axes)
