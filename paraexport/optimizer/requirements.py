"""ONNX files of other origin: what can be rewritten with certainty, and why not what cannot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from paraexport.errors import InputError, on_one_line
from paraexport.graph import untrusted
from paraexport.graph.summary import OVERRIDABLE_IR, RANDOM
from paraexport.system.memory_bound import memory_bound

OLDEST_OPSET = 13
MOST_SHOWN = 3
MOST_NUMBERS = 2**26
"""In one image: the self-check runs 7 at once, several times over."""
HALF = frozenset({"FLOAT16", "BFLOAT16"})
QUANTISED = frozenset(
    {
        "ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul",
        "QuantizeLinear",
    }
)  # fmt: skip


HALF_REMEDY = "optimize the float32 model, and lower its precision after"
FLOAT32 = "export the plain float32 model"
INFERENCE = "export it in inference mode: model.eval()"
DYNAMIC = "export it with the batch as its dynamic axis"
STANDARD = "export it with operators of ONNX alone, before a runtime optimises it"


@dataclass(frozen=True)
class Images:
    """The one input of a graph: float32 [batch, channels, height, width]."""

    name: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class Source:
    """An ONNX file that may be rewritten."""

    path: Path
    model: ir.Model
    """Its graph, a new copy for whoever asked."""
    images: Images
    weights_files: tuple[str, ...]
    """Files of weights, relative to the folder of the file."""


@dataclass(frozen=True)
class Problem:
    """Why a graph is not rewritten, as a clause that names the place, and what the user can do."""

    clause: str
    remedy: str


def read(path: Path) -> Source:
    """The graph in the file at `path`, after making sure that it is one that may be rewritten.

    Raises:
        InputError: it is no valid ONNX file, or has something whose rewriting could not be vouched for.
        MissingError: memory is too little.
    """
    untrusted.require_file(path)
    with memory_bound(untrusted.most_memory(path), path):
        proto = untrusted.read(path)
        untrusted.free_negative_sizes(proto)
        weights_files = untrusted.external_files(proto, path)
        # ONNX's own checks are in C++, and are for flat graphs of known operators only: there they do not crash.
        refuse(path, [*structure_problems(proto)])
        untrusted.check_model(proto, path)
        model = untrusted.as_ir(proto, path)
        refuse(path, [*node_problems(model)])
    (images,) = real_inputs(model)
    assert images.shape is not None
    channels, height, width = (size for size in images.shape[1:] if isinstance(size, int))
    return Source(path, model, Images(str(images.name), (channels, height, width)), weights_files)


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
    """What keeps a graph from being rewritten and can be seen without ONNX's own checks."""
    yield from opset_problems(model)
    if model.functions:
        named = ", ".join(sorted({function.name for function in model.functions}))
        remedy = "inline them: onnx.inliner.inline_local_functions(onnx.load(FILE))"
        yield Problem(f"it has functions of its own ({named})", remedy)
    yield from input_problems(model)
    for value in model.graph.output:
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            yield Problem(f"output {value.name}: not float32", "leave that output out of the export")
    functions = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        where = node.name or node.op_type
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in functions:
            clause = f"{node.domain}.{node.op_type} is no operator of ONNX, so nothing is known of it"
            yield Problem(f"{where}: {clause}", STANDARD)
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            yield Problem(
                f"{where}: {node.op_type} holds a subgraph", "export it without control flow that depends on data"
            )


def opset_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    versions = [opset.version for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    newest = onnx.defs.onnx_opset_version()
    for version in versions or [0]:
        if not versions:
            yield Problem("it names no opset of ONNX", FLOAT32)
        elif version < OLDEST_OPSET:
            convert = f"python -m onnxruntime.tools.update_onnx_opset --opset {OLDEST_OPSET} IN OUT"
            clause = f"it is of opset {version}, older than {OLDEST_OPSET}"
            yield Problem(clause, f"export it with opset_version={OLDEST_OPSET} or later, or convert it: {convert}")
        elif version > newest:
            clause = f"it is of opset {version}, and onnx {onnx.__version__} knows those up to {newest}"
            yield Problem(clause, f"pip install -U onnx, or export it with opset_version={newest}")


def input_problems(model: onnx.ModelProto) -> Iterator[Problem]:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    both = [value.name for value in model.graph.input if value.name in weights]
    if both and model.ir_version >= OVERRIDABLE_IR:
        tool = "python -m onnxruntime.tools.remove_initializer_from_input --input IN --output OUT"
        remedy = f"export it with keep_initializers_as_inputs=False, or make them constants: {tool}"
        clause = (
            f"{some(both)}: an initializer that is an input too, which a caller may replace and a rewrite would fix"
        )
        yield Problem(clause, remedy)
    if len(inputs) != 1:
        named = f" ({some([value.name for value in inputs])})" if inputs else ""
        yield Problem(f"it has {len(inputs)} inputs{named}, not one of images", "export it with its images alone")
        return
    yield from images_problems(inputs[0])


def images_problems(images: onnx.ValueInfoProto) -> Iterator[Problem]:
    where, tensor = f"input {images.name}", images.type.tensor_type
    axes = [*tensor.shape.dim]
    if tensor.elem_type != onnx.TensorProto.FLOAT:
        known = images.type.HasField("tensor_type") and tensor.elem_type
        name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower() if known else "no tensor"
        yield Problem(f"{where}: {name}, not float32", FLOAT32)
        return
    if len(axes) != 4:
        stated = f"{len(axes)} axes" if tensor.HasField("shape") else "no shape"
        yield Problem(f"{where}: {stated}, not [batch, channels, height, width]", "export it with images of one size")
        return
    if axes[0].HasField("dim_value"):
        zero = "; 0 is an empty batch, not a free one" if not axes[0].dim_value else ""
        yield Problem(f"{where}: the batch is fixed to {axes[0].dim_value}{zero}", f"{DYNAMIC}{example(images.name)}")
    if free := [axis.dim_param or "?" for axis in axes[1:] if not axis.HasField("dim_value")]:
        clause = f"{where}: {', '.join(free)} {'is' if len(free) == 1 else 'are'} free beside the batch"
        named = [name for name in free if name != "?"]
        tool = "python -m onnxruntime.tools.make_dynamic_shape_fixed"
        fix = f", or fix it: {tool} --dim_param {named[0]} --dim_value N IN OUT" if named else ""
        yield Problem(clause, f"export it with only the batch dynamic{fix}")
        return
    sizes = [axis.dim_value for axis in axes[1:]]
    numbers = sizes[0] * sizes[1] * sizes[2]
    if not 0 < numbers <= MOST_NUMBERS:
        expected = f"at least 1 and at most {MOST_NUMBERS:,} numbers"
        yield Problem(f"{where}: an image of {sizes} has {numbers:,} numbers, not {expected}", "export a smaller one")


def example(name: str) -> str:
    return f", as dynamic_axes={{{name!r}: {{0: 'batch'}}}} does in torch.onnx.export"


def some(names: list[str]) -> str:
    shown = ", ".join(names[:MOST_SHOWN])
    return f"{shown} and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else shown


def node_problems(model: ir.Model) -> Iterator[Problem]:
    """What keeps a valid graph from being rewritten."""
    for node in model.graph:
        if (problem := node_problem(node)) is not None:
            yield Problem(f"{node.name or node.op_type}: {problem.clause}", problem.remedy)
    for name, value in model.graph.initializers.items():
        if value.dtype is not None and value.dtype.name in HALF:
            yield Problem(f"{name}: its precision is {value.dtype.name}", HALF_REMEDY)


def real_inputs(model: ir.Model) -> list[ir.Value]:
    """The inputs that are no initializers, which files of before IR version 4 list as well."""
    return [value for value in model.graph.inputs if value.name not in model.graph.initializers]


def node_problem(node: ir.Node) -> Problem | None:
    """Why a graph with this node is left alone, or None."""
    if node.op_type in RANDOM - {"Dropout"}:
        return Problem(f"{node.op_type} draws random numbers", INFERENCE)
    if node.op_type == "Dropout" and len(node.inputs) > 2 and node.inputs[2] is not None:
        training = ir.convenience.get_const_tensor(node.inputs[2])
        if training is None or training.numpy().any():
            return Problem("Dropout is in training mode", INFERENCE)
    if node.op_type == "Dropout" and any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        return Problem("the mask of Dropout is read", INFERENCE)
    if node.op_type == "BatchNormalization" and (mode := node.attributes.get("training_mode")) and mode.value:
        return Problem("BatchNormalization is in training mode", INFERENCE)
    if node.op_type in QUANTISED:
        return Problem(f"{node.op_type} is quantised", "optimize the float32 model, and quantise it after")
    dtypes = [*(value.dtype for value in node.outputs), cast_dtype(node)]
    if half := [dtype for dtype in dtypes if dtype is not None and dtype.name in HALF]:
        return Problem(f"its precision is {half[0].name}", HALF_REMEDY)
    return None


def cast_dtype(node: ir.Node) -> ir.DataType | None:
    """What a Cast casts to, which a file need not note with its result."""
    target = node.attributes.get("to") if node.op_type == "Cast" else None
    return None if target is None else ir.DataType(target.as_int())
