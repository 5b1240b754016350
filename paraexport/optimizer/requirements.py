"""Decides whether an ONNX file can be rewritten safely. Each refusal has a reason and a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from paraexport.errors import InputError, on_one_line, shortlist
from paraexport.graph import untrusted
from paraexport.graph.summary import OVERRIDABLE_IR, RANDOM
from paraexport.system.memory_bound import memory_bound

OLDEST_OPSET = 13
MOST_SHOWN = 3
MOST_NUMBERS = 2**26
"""The most numbers in one image. The self-check runs batches of 7, many times."""
HALF = frozenset({"FLOAT16", "BFLOAT16"})
QUANTISED = frozenset(
    {
        "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
        "QuantizeLinear",
    }
)  # fmt: skip


HALF_REMEDY = "optimize the float32 model, then lower its precision"
FLOAT32 = "export the plain float32 model"
INFERENCE = "export it in inference mode: model.eval()"
DYNAMIC = "export it with a dynamic batch axis"
STANDARD = "export it with standard ONNX operators only, before a runtime optimises it"


@dataclass(frozen=True)
class ImageInput:
    """The only input of a graph: float32 [batch, channels, height, width]."""

    name: str
    shape: tuple[int, int, int]
    """(channels, height, width)."""


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX file that may be rewritten."""

    path: Path
    model: ir.Model
    """Its graph. The caller may change it."""
    images: ImageInput
    weights_files: tuple[str, ...]
    """Files of weights, relative to the folder of the file."""


@dataclass(frozen=True)
class Problem:
    """The reason why a graph is not rewritten, as a clause that names the place, and the remedy."""

    clause: str
    remedy: str


def read(path: Path) -> OnnxSource:
    """Read the graph in the file at `path`, and check that it may be rewritten.

    Raises:
        InputError: it is no valid ONNX file, or contains something that cannot be rewritten safely.
        MissingError: there is not enough memory.
    """
    untrusted.require_file(path)
    with memory_bound(untrusted.most_memory(path), path):
        proto = untrusted.read(path)
        untrusted.free_negative_sizes(proto)
        weights_files = untrusted.external_files(proto, path)
        # ONNX's own checks, in C++, can crash on subgraphs and unknown operators, so refuse these first.
        refuse(path, [*structure_problems(proto)])
        untrusted.check_model(proto, path)
        model = untrusted.as_ir(proto, path)
        refuse(path, [*node_problems(model)])
    (images,) = real_inputs(model)
    assert images.shape is not None
    channels, height, width = (size for size in images.shape[1:] if isinstance(size, int))
    return OnnxSource(path, model, ImageInput(str(images.name), (channels, height, width)), weights_files)


def refuse(path: Path, problems: list[Problem]) -> None:
    if problems:
        more = f"; and {len(problems) - MOST_SHOWN} more" if len(problems) > MOST_SHOWN else ""
        shown = problems[:MOST_SHOWN]
        raise InputError(
            f"cannot be rewritten: {'; '.join(on_one_line(problem.clause) for problem in shown)}{more}",
            where=path,
            remedy="; ".join(dict.fromkeys(on_one_line(problem.remedy) for problem in shown)),
        )


def structure_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    """Problems of a graph that can be found without ONNX's own checks."""
    yield from opset_problems(model)
    if model.functions:
        named = ", ".join(sorted({function.name for function in model.functions}))
        remedy = "inline them: onnx.inliner.inline_local_functions(onnx.load(FILE))"
        yield Problem(f"it defines its own functions ({named})", remedy)
    yield from input_problems(model)
    for value in model.graph.output:
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            yield Problem(f"output {value.name}: not float32", "export the model without this output")
    functions = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        where = node.name or node.op_type
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            clause = f"{node.domain}.{node.op_type} is not a standard ONNX operator"
            yield Problem(f"{where}: {clause}", STANDARD)
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            yield Problem(
                f"{where}: {node.op_type} contains a subgraph", "export it without control flow that depends on data"
            )


def opset_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    for version in versions or [0]:
        if not versions:
            yield Problem("it does not state its ONNX opset", FLOAT32)
        elif version < OLDEST_OPSET:
            convert = f"python -m onnxruntime.tools.update_onnx_opset --opset {OLDEST_OPSET} IN OUT"
            clause = f"it has opset {version}, older than {OLDEST_OPSET}"
            yield Problem(clause, f"export it with opset_version={OLDEST_OPSET} or later, or convert it: {convert}")
        elif version > newest:
            clause = f"it has opset {version}, but onnx {onnx.__version__} only knows opsets up to {newest}"
            yield Problem(clause, f"pip install -U onnx, or export it with opset_version={newest}")


def input_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    both = [value.name for value in model.graph.input if value.name in weights]
    if both and model.ir_version >= OVERRIDABLE_IR:
        tool = "python -m onnxruntime.tools.remove_initializer_from_input --input IN --output OUT"
        remedy = f"export it with keep_initializers_as_inputs=False, or make them constants: {tool}"
        clause = f"{shortlist(both, MOST_SHOWN)}: an initializer that callers can replace, since it is also an input"
        yield Problem(clause, remedy)
    if len(inputs) != 1:
        named = f" ({shortlist([value.name for value in inputs], MOST_SHOWN)})" if inputs else ""
        yield Problem(
            f"it has {len(inputs)} inputs{named}, expected one for images",
            "export it with images as the only input",
        )
        return
    yield from images_problems(inputs[0])


def images_problems(images: onnx.ValueInfoProto) -> Iterator[Problem]:
    where, tensor = f"input {images.name}", images.type.tensor_type
    axes = [*tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        known = images.type.HasField("tensor_type") and tensor.elem_type
        name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if known else "not a tensor"
        yield Problem(f"{where}: {name}, not float32", FLOAT32)
        return
    if len(axes) != 4:
        stated = f"{len(axes)} axes" if tensor.HasField("shape") else "no shape"
        yield Problem(f"{where}: {stated}, not [batch, channels, height, width]", "export it with a fixed image size")
        return
    if axes[0].HasField("dim_value"):
        zero = "; 0 means an empty batch, not a free one" if not axes[0].dim_value else ""
        yield Problem(f"{where}: the batch is fixed to {axes[0].dim_value}{zero}", f"{DYNAMIC}{example(images.name)}")
    if free := [axis.dim_param or "?" for axis in axes[1:] if not axis.HasField("dim_value")]:
        clause = f"{where}: {', '.join(free)} {'is' if len(free) == 1 else 'are'} free, besides the batch"
        named = [name for name in free if name != "?"]
        tool = "python -m onnxruntime.tools.make_dynamic_shape_fixed"
        fix = f", or fix it: {tool} --dim_param {named[0]} --dim_value N IN OUT" if named else ""
        yield Problem(clause, f"export it with only the batch dynamic{fix}")
        return
    sizes = [axis.dim_value for axis in axes[1:]]
    numbers = sizes[0] * sizes[1] * sizes[2]
    if not 0 < numbers <= MOST_NUMBERS:
        expected = f"at least 1 and at most {MOST_NUMBERS:,} numbers"
        yield Problem(f"{where}: an image of {sizes} has {numbers:,} numbers, not {expected}", "export a smaller model")


def example(name: str) -> str:
    return f", in torch.onnx.export with dynamic_axes={{{name!r}: {{0: 'batch'}}}}"


def node_problems(model: ir.Model) -> Iterator[Problem]:
    """Problems of the nodes and weights of a valid graph."""
    for node in model.graph:
        if (problem := node_problem(node)) is not None:
            yield Problem(f"{node.name or node.op_type}: {problem.clause}", problem.remedy)
    for name, value in model.graph.initializers.items():
        if value.dtype is not None and value.dtype.name in HALF:
            yield Problem(f"{name}: its precision is {value.dtype.name}", HALF_REMEDY)


def real_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that are not initializers. Files before IR version 4 list initializers as inputs too."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def node_problem(node: ir.Node) -> Problem | None:
    """Why a graph with this node is refused, or None."""
    if node.op_type in RANDOM - {"Dropout"}:
        return Problem(f"{node.op_type} draws random numbers", INFERENCE)
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = ir.convenience.get_const_tensor(node.inputs[2])
        if training is None or training.numpy().any():
            return Problem("Dropout is in training mode", INFERENCE)
    if node.op_type == "Dropout" and any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return Problem("the mask output of Dropout is used", INFERENCE)
    if node.op_type == "BatchNormalization" and (mode := node.attributes.get("training_mode")) and mode.value:
        return Problem("BatchNormalization is in training mode", INFERENCE)
    if node.op_type in QUANTISED:
        return Problem(f"{node.op_type} is quantised", "optimize the float32 model, then quantise it")
    dtypes = [*(value.dtype for value in node.outputs), cast_dtype(node)]
    if half := [dtype for dtype in dtypes if dtype is not None and dtype.name in HALF]:
        return Problem(f"its precision is {half[0].name}", HALF_REMEDY)
    return None


def cast_dtype(node: ir.Node) -> ir.DataType | None:
    """The type that a Cast casts to. The file may lack it in the result."""
    target = node.attributes.get("to") if node.op_type == "Cast" else None
    return None if target is None else ir.DataType(target.as_int())
