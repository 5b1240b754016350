"""Which forms of attention does TensorRT-RTX compile, and which of them into one fused kernel?

    python -m benchmarks.experiments.attention_forms -o benchmarks/results/

The graph is one attention of three heads over 65 tokens. One form is an `Attention` node (opset 23), with several
kernels allowed or not (`IAttention.decomposable`). The other is written out as MatMul, Softmax and MatMul (opset 20),
with the softmax in float32. Nothing is run, and no GPU is needed.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper

from benchmarks.harness import machine, pages
from paraexport.targets.trt import plan
from paraexport.targets.trt.flavour import RTX
from paraexport.targets.trt.logger import logger_of
from paraexport.targets.trt.network import attentions

TYPES = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
HEAD_SIZES = (16, 32, 64, 128)
HEADS, TOKENS, MAX_BATCH = 3, 65, 64
NODE, WRITTEN_OUT = "Attention node", "written out"
NAME = "attention_forms"


@dataclasses.dataclass(frozen=True)
class Row:
    precision: str
    head_size: int
    form: str
    decomposable: str
    """Whether several kernels are allowed; `-` if there is no node to decompose."""
    compiles: bool
    fused: bool
    error: str


def graph(precision: str, head_size: int, form: str) -> onnx.ModelProto:
    kind, width = TYPES[precision], HEADS * head_size
    heads = "".join(f"{name}1 = MatMul(x, w) {name}2 = Reshape({name}1, apart) " for name in "qkv")
    heads += "".join(f"{name} = Transpose<perm=[0, 2, 1, 3]>({name}2) " for name in "qkv")
    written = (
        f"kt = Transpose<perm=[0, 1, 3, 2]>(k) s = MatMul(q, kt) s32 = Cast<to=1>(s) p32 = Softmax(s32) "
        f"p = Cast<to={kind}>(p32) a = MatMul(p, v) "
    )
    middle = "a = Attention(q, k, v) " if form == NODE else written
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {23 if form == NODE else 20}]> '
        f"g (float[batch, {TOKENS}, {width}] images) => (float[batch, {HEADS}, {TOKENS}, {head_size}] logits) "
        f"{{ x = Cast<to={kind}>(images) {heads}{middle}logits = Cast<to=1>(a) }}"
    )
    weight = np.random.default_rng(0).standard_normal((width, width), np.float32) / width**0.5
    tensor = helper.make_tensor("w", kind, weight.shape, weight.ravel())
    apart = numpy_helper.from_array(np.array([0, TOKENS, HEADS, head_size], np.int64), "apart")
    model.graph.initializer.extend([tensor, apart])
    return model


def attempt(precision: str, head_size: int, form: str, decomposable: bool | None) -> Row:
    trt = RTX.load()
    logger = logger_of(trt)
    logger.start()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    content = None
    if parser.parse(graph(precision, head_size, form).SerializeToString()):
        for layer in attentions(trt, network):
            layer.attention.decomposable = decomposable
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        shape = tuple(network.get_input(0).shape)[1:]
        profile.set_shape("images", *((size, *shape) for size in (1, 8, MAX_BATCH)))
        config.add_optimization_profile(profile)
        content = builder.build_serialized_network(network, config)
    allowed = {None: "-", False: "no", True: "yes"}[decomposable]
    fused = content is not None and plan.fuses_attention(bytes(content))
    error = "" if content is not None else logger.error_text().partition("failed. ")[2][:60]
    return Row(precision, head_size, form, allowed, content is not None, fused, error)


def attempts() -> Iterator[Row]:
    forms = ((NODE, False), (NODE, True), (WRITTEN_OUT, None))
    for precision, head_size, (form, decomposable) in itertools.product(TYPES, HEAD_SIZES, forms):
        yield attempt(precision, head_size, form, decomposable)


def page(rows: list[Row], command: str, where: machine.Machine) -> str:
    head = ("precision", "head size", "form", "decomposable", "compiles", "fused kernel in the plan", "error")
    yes = {True: "yes", False: "no"}
    lines = [head, ("-",) * len(head)]
    lines += [
        (row.precision, str(row.head_size), row.form, row.decomposable, yes[row.compiles], yes[row.fused], row.error)
        for row in rows
    ]
    return f"""# Forms of attention in TensorRT-RTX {RTX.availability().version}

`{command}`; {HEADS} heads, {TOKENS} tokens, batches of 1 to {MAX_BATCH}; nothing was run.
{where.line()}.

{pages.markdown_table(lines)}
"""


@click.command(help="Compile every form of attention with TensorRT-RTX.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for both files."
)
def main(*, output: Path) -> None:
    where, rows = machine.describe(), [*attempts()]
    output.mkdir(parents=True, exist_ok=True)
    pages.write_csv(output / f"{NAME}.csv", Row, rows)
    (output / f"{NAME}.md").write_text(page(rows, pages.command(), where), encoding="utf-8")


if __name__ == "__main__":
    main()
