"""Writes ONNX files that are valid and self-contained."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from paraexport.errors import TraceError

PROTOBUF_LIMIT_BYTES = 2**31 - 1


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
        onnx.checker.check_model(path, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        got = f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
        raise TraceError("the graph is not valid ONNX", where=path.name, got=got) from error
