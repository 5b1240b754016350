"""ONNX files of any origin, as `optimize` and `inspect` read them: damaged as bytes, and as messages."""

from __future__ import annotations

import functools
import json
import logging
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import onnx
from onnx import AttributeProto, TensorProto, helper

from paraexport.graph import inspection
from paraexport.optimizer import requirements
from paraexport.optimizer.rewriting import rewrite
from paraexport.system import isolation
from tests.faults.mutation import EDGES, mutate
from tests.faults.reader import Reader

NUMBERS = (-(2**63), -1, 0, 1, 2, 3, 4, 16, 1000, 2**20, 2**31, *(edge for edge in EDGES if edge < 2**63))
TEXTS = ("", "x", "images", "logits", "batch", "ai.onnx", "com.microsoft", "a\nb", "\0", "n" * 300, "..", "é")
LOCATIONS = ("", "case.onnx", "gone.bin", "../case.onnx", "/dev/zero", "/dev/stdin", ".", "a\0b", "/etc/passwd")
MOST_MB = 2200
"""What `untrusted.most_memory` allows for small files, and a little."""
NO_TEXT = "!no-text!"
"""Stands for bytes that are no UTF-8, which a message does not take."""
Damage = Callable[[onnx.ModelProto, Random], None]
OPERATORS = sorted({schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain})


def onnx_files(folder: Path) -> Sequence[bytes]:
    """Made in a separate process: with torch loaded in this one, each fork below would take four times as long."""
    subprocess.run([sys.executable, "-m", "tests.faults.onnx_seeds", folder], check=True)
    logging.disable(logging.WARNING)
    return [file.read_bytes() for file in sorted(folder.glob("*.onnx"))]


# Damage to the message.


def tensors_of(model: onnx.ModelProto) -> list[TensorProto]:
    inside = [attribute.t for node in model.graph.node for attribute in node.attribute if attribute.HasField("t")]
    return [*model.graph.initializer, *inside]


def values_of(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    return [*model.graph.input, *model.graph.output, *model.graph.value_info]


def names_of(model: onnx.ModelProto) -> list[str]:
    computed = [name for node in model.graph.node for name in node.output]
    return [*computed, *(tensor.name for tensor in model.graph.initializer), "images", "logits", "", "unknown"]


def text(pick: Random) -> str:
    return pick.choice((NO_TEXT, *TEXTS))


def data_type(model: onnx.ModelProto, pick: Random) -> None:
    pick.choice(tensors_of(model)).data_type = pick.choice((*range(30), -1, 999, 2**31 - 1))


def value_type(model: onnx.ModelProto, pick: Random) -> None:
    pick.choice(values_of(model)).type.tensor_type.elem_type = pick.choice((*range(30), -1, 999))


def tensor_shape(model: onnx.ModelProto, pick: Random) -> None:
    tensor = pick.choice(tensors_of(model))
    sizes = [*tensor.dims]
    pick.choice((sizes.reverse, sizes.clear, lambda: sizes.append(pick.choice(NUMBERS))))()
    if sizes and pick.random() < 0.5:
        sizes[pick.randrange(len(sizes))] = pick.choice(NUMBERS)
    del tensor.dims[:]
    tensor.dims.extend(sizes)


def tensor_data(model: onnx.ModelProto, pick: Random) -> None:
    tensor = pick.choice(tensors_of(model))
    raw = tensor.raw_data
    tensor.raw_data = pick.choice((b"", raw[:-1], raw + b"\0", raw[: len(raw) // 2], raw * 2))
    if pick.random() < 0.3:
        tensor.ClearField("raw_data")
        tensor.int32_data.extend(range(pick.randrange(5)))


def integers(model: onnx.ModelProto, pick: Random) -> None:
    """Other numbers in a constant of shapes or axes."""
    wanted = [tensor for tensor in tensors_of(model) if tensor.data_type == TensorProto.INT64 and tensor.raw_data]
    if wanted:
        tensor = pick.choice(wanted)
        raw = bytearray(tensor.raw_data)
        start = pick.randrange(max(1, len(raw) // 8)) * 8
        raw[start : start + 8] = pick.choice(NUMBERS).to_bytes(8, "little", signed=True)
        tensor.raw_data = bytes(raw)


def value_shape(model: onnx.ModelProto, pick: Random) -> None:
    value = pick.choice(values_of(model))
    axes = value.type.tensor_type.shape.dim
    if pick.random() < 0.2 or not axes:
        value.type.tensor_type.ClearField("shape")
    elif pick.random() < 0.5:
        pick.choice(axes).dim_value = pick.choice(NUMBERS)
    else:
        pick.choice(axes).dim_param = text(pick)


def name(model: onnx.ModelProto, pick: Random) -> None:
    graph = model.graph
    message = pick.choice((*tensors_of(model), *values_of(model), *graph.node, graph, model.opset_import[0]))
    field = "domain" if isinstance(message, onnx.OperatorSetIdProto) else "name"
    setattr(message, field, pick.choice((text(pick), pick.choice(names_of(model)))))


def reading(model: onnx.ModelProto, pick: Random) -> None:
    node = pick.choice(model.graph.node)
    inputs = [*node.input] or [""]
    inputs[pick.randrange(len(inputs))] = pick.choice((text(pick), pick.choice(names_of(model))))
    extra = [pick.choice(names_of(model)) for _ in range(pick.choice((0, 0, 1, 3)))]
    del node.input[:]
    node.input.extend([*inputs, *extra][: pick.choice((0, 1, 2, 9))])


def writing(model: onnx.ModelProto, pick: Random) -> None:
    node = pick.choice(model.graph.node)
    if pick.random() < 0.5 and node.output:
        del node.output[pick.randrange(len(node.output))]
    else:
        node.output.append(pick.choice((text(pick), pick.choice(names_of(model)))))


def operator(model: onnx.ModelProto, pick: Random) -> None:
    node = pick.choice(model.graph.node)
    node.op_type = pick.choice((pick.choice(OPERATORS), pick.choice(OPERATORS), text(pick)))
    if pick.random() < 0.1:
        node.domain = text(pick)


def attribute(model: onnx.ModelProto, pick: Random) -> None:
    nodes = [node for node in model.graph.node if node.attribute]
    node = pick.choice(nodes or model.graph.node)
    if not node.attribute or pick.random() < 0.2:
        node.attribute.add(name=pick.choice(("axis", "perm", "to", "value", text(pick))))
    changed = pick.choice(node.attribute)
    kind = pick.randrange(8)
    if kind == 0:
        node.attribute.remove(changed)
    elif kind == 1:
        changed.type = pick.choice(AttributeProto.AttributeType.values())
    elif kind == 2:
        changed.i, changed.type = pick.choice(NUMBERS), AttributeProto.INT
    elif kind == 3:
        changed.ints.extend([pick.choice(NUMBERS)])
        changed.type = AttributeProto.INTS
    elif kind == 4 and changed.ints:
        changed.ints[pick.randrange(len(changed.ints))] = pick.choice(NUMBERS)
    elif kind == 5:
        changed.name = text(pick)
    elif kind == 6:
        changed.s, changed.type = b"\xff\xfe", AttributeProto.STRING
    else:
        node.attribute.add().CopyFrom(changed)


def version(model: onnx.ModelProto, pick: Random) -> None:
    if pick.random() < 0.7:
        model.opset_import[0].version = pick.choice((*NUMBERS, *range(7, 26)))
    else:
        model.ir_version = pick.choice((*NUMBERS, *range(14)))


def node_order(model: onnx.ModelProto, pick: Random) -> None:
    nodes = [*model.graph.node]
    one, other = pick.randrange(len(nodes)), pick.randrange(len(nodes))
    kind = pick.randrange(3)
    if kind == 0:
        nodes[one], nodes[other] = nodes[other], nodes[one]
    elif kind == 1:
        nodes.insert(one, nodes[other])
    else:
        del nodes[one]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)


def signature(model: onnx.ModelProto, pick: Random) -> None:
    side = pick.choice((model.graph.input, model.graph.output, model.graph.initializer))
    if pick.random() < 0.5 and side:
        del side[pick.randrange(len(side))]
    elif side is not model.graph.initializer:
        name = pick.choice(names_of(model))
        side.append(helper.make_tensor_value_info(name, pick.choice((1, 7)), [pick.choice(NUMBERS)]))


def external(model: onnx.ModelProto, pick: Random) -> None:
    tensor = pick.choice(tensors_of(model))
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    for key, value in (("location", pick.choice((NO_TEXT, *LOCATIONS))), ("offset", "0"), ("length", "16")):
        if pick.random() < 0.9:
            tensor.external_data.add(key=key, value=value if pick.random() < 0.8 else pick.choice(("-1", "1e3", "²")))


def nested(model: onnx.ModelProto, pick: Random) -> None:
    """Graphs in graphs, or functions that call one another."""
    if pick.random() < 0.5:
        graph = helper.make_graph([helper.make_node("Relu", ["logits"], ["y"])], "g", [], [])
        for _ in range(pick.choice((1, 5, 20))):
            outer = onnx.GraphProto(name="g")
            node = outer.node.add(op_type="If", input=["yes"], output=["y"])
            node.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g.CopyFrom(graph)
            graph = outer
        model.graph.node.add().CopyFrom(graph.node[0])
        return
    for own, called in (("A", "B"), ("B", pick.choice("AB"))):
        body = [helper.make_node(called, ["x"], ["y"], domain="own")]
        function = helper.make_function("own", own, ["x"], ["y"], body, [helper.make_opsetid("own", 1)])
        model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.append(helper.make_node("A", ["logits"], ["z"], domain="own"))


DAMAGES: tuple[Damage, ...] = (
    *(data_type, value_type, tensor_shape, tensor_data, integers, value_shape, name, reading, writing, operator),
    *(attribute, version, node_order, signature, external, nested),
)


def damage(data: bytes, pick: Random) -> bytes:
    if pick.random() < 0.3:
        return mutate(data, pick)
    model = onnx.ModelProto.FromString(data)
    for _ in range(pick.choice((1, 1, 1, 2, 3))):
        pick.choice(DAMAGES)(model, pick)
    changed = model.SerializeToString()
    return changed.replace(NO_TEXT.encode(), b"\xff\xfe" + NO_TEXT.encode()[2:])


# Reading. The command does this in a separate process (`paraexport.system.isolation`), these tests in a fork.


def optimize_up_to_the_self_check(file: Path) -> None:
    layout = "stacked" if file.stat().st_size % 2 else "folded"
    rewrite(requirements.read(file), layout)


def apart(read: Callable[[Path], object], file: Path) -> None:
    """Read the file in a separate process, as the command does: a crash only ends that process."""
    report, stderr_file = file.with_suffix(".report"), file.with_suffix(".stderr")
    report.unlink(missing_ok=True)
    if not (child := os.fork()):
        with stderr_file.open("wb") as stderr:
            os.dup2(stderr.fileno(), 2)
        event: dict[str, object] = {}
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            read(file)
        except BaseException as error:
            event = isolation.encode_error(error)
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb
        report.write_text(json.dumps([event, grown_kb]))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not report.exists():
        code = os.waitstatus_to_exitcode(status)
        raise isolation.crash_error(code, "reading", stderr_file.read_text(errors="replace"), file, "export it again")
    event, grown_kb = json.loads(report.read_text())
    assert grown_kb < MOST_MB * 1024, f"memory grew by {grown_kb} kB"
    if event:
        raise isolation.decode_error(event)


READERS = (
    Reader("onnx-inspect", onnx_files, functools.partial(apart, inspection.read), ".onnx", damage, few=40),
    Reader(
        "onnx-optimize", onnx_files, functools.partial(apart, optimize_up_to_the_self_check), ".onnx", damage, few=40
    ),
)
