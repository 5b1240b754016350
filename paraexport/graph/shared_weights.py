"""Writes several models over one file of weights, in which equal weights are stored once.

A tensor may also be the beginning of a larger one: the first k of L stacked branches are a prefix of its bytes. So the
models with fewer branches need hardly more than their graphs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.onnx_file import SMALL_BYTES, check, is_plain, load

ALIGNMENT_BYTES = 64
"""Each tensor begins at a multiple of this size, a line of the cache."""
KEY_BYTES = 256
"""Tensors with equal first bytes are compared in full."""
Content = NDArray[np.uint8]


@dataclass
class Store:
    """A file of weights that is being written."""

    file: BinaryIO
    stored: dict[bytes, list[tuple[int, Content]]] = field(default_factory=lambda: defaultdict(list))
    """Offset and content, by the first bytes."""
    size_bytes: int = 0

    def place(self, content: Content) -> int:
        """Return the offset of `content` in the file, after writing it if nothing in the file begins with it."""
        key = content[:KEY_BYTES].tobytes()
        for offset, other in self.stored[key]:
            if len(other) >= len(content) and np.array_equal(other[: len(content)], content):
                return offset
        gap = -self.size_bytes % ALIGNMENT_BYTES
        self.file.write(bytes(gap))
        offset = self.size_bytes + gap
        self.file.write(content.data)
        self.size_bytes = offset + len(content)
        self.stored[key].append((offset, content))
        return offset


def share_weights(models: Mapping[Path, Path], data: Path) -> None:
    """Write copies of models that read their weights from `data`, which must be in the folder of the copies.

    Args:
        models: the file of each model, and the file to write. The model with the largest weights comes first.

    Raises:
        TraceError: a copy is not valid ONNX.
    """
    with data.open("wb") as file:
        store = Store(file)
        for number, (source, copy) in enumerate(models.items()):
            model = load(source)
            for value in large_weights(model.graph):
                tensor = value.const_value
                assert tensor is not None
                offset = store.place(np.frombuffer(memoryview(tensor.tobytes()), np.uint8))
                shape = ir.Shape([*tensor.shape.numpy()])
                value.const_value = ir.ExternalTensor(
                    data.name, offset, tensor.nbytes, tensor.dtype, shape=shape, name=tensor.name or value.name or ""
                )
            shorten(model.graph, names=number > 0)
            ir.save(model, copy)
    for copy in models.values():
        check(copy)


def large_weights(graph: ir.Graph) -> Iterator[ir.Value]:
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > SMALL_BYTES and is_plain(tensor):
            yield value


def shorten(graph: ir.Graph, *, names: bool) -> None:
    """Leave out what makes a graph longer and changes nothing: shapes of constants and, with `names`, names of values.

    Nodes keep their names. The shapes of other values stay, because ONNX Runtime fuses less without them.
    """
    for value in graph.initializers.values():
        value.shape = value.type = None
    if not names:
        return
    inner = [*graph.initializers.values(), *(value for node in graph for value in node.outputs)]
    outside = {*graph.inputs, *graph.outputs}
    for number, value in enumerate(value for value in inner if value not in outside and value.name):
        value.name = f"v{number}"


def model_bytes(file: Path) -> int:
    """The size of a model with its own weights, as if it shared them with no other."""
    outside = sum(
        value.const_value.nbytes
        for value in load(file).graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    )
    return file.stat().st_size + outside
