"""ONNX files of other origin: what can be rewritten with certainty, and why not what cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from paraexport.errors import InputError
from paraexport.onnx_file import load
from paraexport.onnx_summary import RANDOM, summarise
from paraexport.plain_paths import plain

OLDEST_OPSET = 13
MOST_TOLD = 3
HALF = frozenset({"FLOAT16", "BFLOAT16"})
QUANTISED = frozenset(
    {
        "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
        "QuantizeLinear",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Images:
    """The one input of a graph: float32 [batch, channels, height, width]."""

    name: str
    shape: tuple[int, int, int]


def check(path: Path) -> Images:
    """The input of the graph at `path`, after making sure that it is one that may be rewritten.

    Raises:
        InputError: it is no valid ONNX file, or has something whose rewriting could not be vouched for.
    """
    require_file(path)
    summarise(path)
    try:
        onnx.checker.check_model(plain(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(
            "not valid ONNX", where=path, got=first_line(error), remedy="export it again, or repair it"
        ) from error
    model = load(path)
    require_weights(model)
    if problems := [*problems_of(model)]:
        more = f"; and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
        raise InputError(
            f"cannot be rewritten: {'; '.join(problems[:MOST_TOLD])}{more}",
            where=path,
            expected="a float32 graph of images with a free batch, without subgraphs, functions or random numbers",
            remedy="export the plain float32 model in inference mode, with the batch as its dynamic axis",
        )
    (images,) = real_inputs(model)
    assert images.shape is not None
    channels, height, width = (size for size in images.shape[1:] if isinstance(size, int))
    return Images(str(images.name), (channels, height, width))


def require_file(path: Path) -> None:
    if not path.is_file():
        got = "a folder" if path.is_dir() else "nothing there"
        raise InputError("no ONNX file", where=path, expected="a file", got=got, remedy="check the path")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError("cannot be read", where=path, got=error.strerror, remedy="check its permissions") from error


def require_weights(model: ir.Model) -> None:
    """Make sure that the weights in other files are all there."""
    for name, value in model.graph.initializers.items():
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            place, end = Path(tensor.path), (tensor.offset or 0) + tensor.nbytes
            if (size := place.stat().st_size) < end:
                raise InputError(
                    "its weights are cut off",
                    where=place,
                    expected=f"at least {end} bytes, for {name}",
                    got=size,
                    remedy="copy the file of weights again",
                )


def first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def problems_of(model: ir.Model) -> Iterator[str]:
    """Everything that keeps the graph from being rewritten, each as one clause that names its node."""
    if (version := model.opset_imports.get("", 0)) < OLDEST_OPSET:
        yield f"it is of opset {version}, older than {OLDEST_OPSET}"
    if model.functions:
        named = ", ".join(sorted(identifier[1] for identifier in model.functions))
        yield f"it has functions of its own ({named}): inline them with onnx.inliner"
    yield from input_problems(model)
    yield from (
        f"output {value.name}: its numbers are no float32" for value in model.graph.outputs if not is_float(value)
    )
    functions = {identifier[:2] for identifier in model.functions}
    for node in model.graph:
        if (node.domain, node.op_type) not in functions and (reason := node_problem(node)) is not None:
            yield f"{node.name or node.op_type}: {reason}"
    for name, value in model.graph.initializers.items():
        if value.dtype is not None and value.dtype.name in HALF:
            yield f"{name}: {low_precision(value.dtype)}"


def input_problems(model: ir.Model) -> Iterator[str]:
    inputs = real_inputs(model)
    if len(inputs) != 1:
        yield f"it has {len(inputs)} inputs ({', '.join(str(value.name) for value in inputs)}), not one of images"
        return
    (images,) = inputs
    shape = list(images.shape or ())
    if not is_float(images):
        yield f"input {images.name}: {images.dtype or 'no tensor'}, not float32"
    elif len(shape) != 4:
        yield f"input {images.name}: {len(shape)} axes, not [batch, channels, height, width]"
    elif isinstance(shape[0], int):
        yield f"input {images.name}: the batch is fixed to {shape[0]}"
    elif free := [str(size) for size in shape[1:] if not isinstance(size, int)]:
        yield f"input {images.name}: {', '.join(free)} is free beside the batch"


def real_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that are no initializers, which files of before IR version 4 list as well."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def is_float(value: ir.Value) -> bool:
    return isinstance(value.type, ir.TensorType) and value.dtype == ir.DataType.FLOAT


def node_problem(node: ir.Node) -> str | None:
    """Why a graph with this node is left alone, or None."""
    if node.domain not in ("", "ai.onnx"):
        return f"{node.domain}.{node.op_type} is no operator of ONNX, so nothing is known of it"
    if any(one.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for one in node.attributes.values()):
        return f"{node.op_type} holds a subgraph"
    if node.op_type in RANDOM - {"Dropout"}:
        return f"{node.op_type} draws random numbers"
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = ir.convenience.get_const_tensor(node.inputs[2])
        if training is None or training.numpy().any():
            return "Dropout is in training mode"
    if node.op_type == "Dropout" and any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return "the mask of Dropout is read"
    if node.op_type == "BatchNormalization" and (mode := node.attributes.get("training_mode")) and mode.value:
        return "BatchNormalization is in training mode"
    if node.op_type in QUANTISED:
        return f"{node.op_type} is quantised; optimize the float32 model, and quantise it after"
    told = [value.dtype for value in node.outputs]
    if half := [dtype for dtype in (*told, made_dtype(node)) if dtype is not None and dtype.name in HALF]:
        return low_precision(half[0])
    return None


def made_dtype(node: ir.Node) -> ir.DataType | None:
    """What a Cast casts to, which a file need not note with its result."""
    target = node.attributes.get("to") if node.op_type == "Cast" else None
    return None if target is None else ir.DataType(target.as_int())


def low_precision(dtype: ir.DataType) -> str:
    return f"its precision is {dtype.name}; optimize the float32 model, and lower its precision after"
