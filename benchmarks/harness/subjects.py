"""What is measured: a seeded model, its ONNX graphs, images and PyTorch's logits, in one folder.

The folder holds `spec.json`, and `GRAPH/model.onnx` for each graph. For each batch of B images it holds `inputs-B.npy`
[B, C, H, W], and the logits of PyTorch eager, `float32-B.npy` and `float64-B.npy` [B, classes].
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from paraexport.model.spec import Pool, Spec

if TYPE_CHECKING:
    from paraexport.model.reference import ParaFormer

SEED = 0
PLAIN_OPSET = 20
"""The default of torch.onnx.export in torch 2.13. ONNX Runtime's transformer optimizer can read it."""
PLAIN, OPTIMIZED, PRODUCT = "plain", "optimized", "product"
OURS = ("branches", "folded", "stacked")


@dataclass(frozen=True)
class Subject:
    """A folder, and facts about its graphs."""

    folder: Path
    multiply_adds: dict[str, int]
    """For one image, by graph."""
    notes: dict[str, str]
    failed: dict[str, str]
    """By graph, why it could not be written."""


@dataclass(frozen=True)
class Recipe:
    """How to write a graph."""

    write: Callable[[ParaFormer, Path], str]
    """Writes the graph of a model to a path in an existing folder, and returns a note for the results."""
    source: str | None = None
    """Another graph that this one is written from."""
    own_products: bool = True
    """False if it has nodes whose multiply-adds we cannot count. Then those of `source` are used."""


def released(branches: int, depth: int, pool: Pool) -> Spec:
    """The released architecture. Images of 128 x 128 give 65 tokens with a class token."""
    return Spec(
        image_size=(128, 128), channels=3, classes=10, patch_size=(16, 16), dim=192, branches=branches, depth=depth,
        heads=3, head_dim=64, mlp_dim=768, residual="normalized", pool=pool, qkv_bias=False,
    )  # fmt: skip


def prepare(
    spec: Spec,
    folder: Path,
    batches: Sequence[int],
    graphs: Sequence[str],
    recipes: Mapping[str, Recipe] | None = None,
) -> Subject:
    """Create `folder`, and write the seeded model of `spec`, its graphs and PyTorch's logits to it."""
    folder.mkdir(parents=True)
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    model = seeded_model(spec)
    write_answers(model, folder, batches)
    return write_graphs(model, folder, graphs, RECIPES if recipes is None else recipes)


def write_graphs(model: ParaFormer, folder: Path, graphs: Sequence[str], recipes: Mapping[str, Recipe]) -> Subject:
    """Write `graphs` and their sources below `folder`. If one fails, `Subject.failed` has the reason."""
    import onnx_ir as ir

    from paraexport.graph.cost import multiply_adds

    counts: dict[str, int] = {}
    notes: dict[str, str] = {}
    failed: dict[str, str] = {}
    for graph in dict.fromkeys(name for requested in graphs for name in with_sources(requested, recipes)):
        recipe, path = recipes[graph], folder / graph / "model.onnx"
        if recipe.source in failed:
            failed[graph] = failed[recipe.source]
            continue
        path.parent.mkdir()
        try:
            notes[graph] = recipe.write(model, path)
            if recipe.own_products:
                counts[graph] = multiply_adds(ir.load(path).graph)
            elif recipe.source is not None:
                counts[graph] = counts[recipe.source]
        except ImportError as error:
            failed[graph] = f"not installed: {error}"
        except Exception as error:  # a peer that fails is a result
            failed[graph] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return Subject(folder, counts, notes, failed)


def with_sources(graph: str, recipes: Mapping[str, Recipe]) -> list[str]:
    """The sources of `graph`, in the order in which they are written, then `graph`."""
    source = recipes[graph].source
    return [*([] if source is None else with_sources(source, recipes)), graph]


def prepare_product(size: int, folder: Path) -> Subject:
    """Write one float32 product [size, size] x constant [size, size]. Its rate is the peak of a runtime here."""
    import onnx_ir as ir

    from paraexport.graph.onnx_file import save

    (folder / PRODUCT).mkdir(parents=True)
    random = np.random.default_rng(SEED)
    left, right = (random.standard_normal((size, size), np.float32) for _ in range(2))
    images = ir.Value(name="images", shape=ir.Shape([size, size]), type=ir.TensorType(ir.DataType.FLOAT))
    weight = ir.Value(name="weight", const_value=ir.tensor(right, name="weight"))
    weight.shape, weight.type = ir.Shape([size, size]), ir.TensorType(ir.DataType.FLOAT)
    node = ir.node("MatMul", [images, weight])
    logits = node.outputs[0]
    logits.name, logits.shape, logits.type = "logits", images.shape, images.type
    graph = ir.Graph([images], [logits], nodes=[node], initializers=[weight], opset_imports={"": PLAIN_OPSET}, name="p")
    save(ir.Model(graph, ir_version=10), folder / PRODUCT / "model.onnx")
    np.save(folder / "inputs-1.npy", left)
    np.save(folder / "float32-1.npy", left @ right)
    np.save(folder / "float64-1.npy", left.astype(np.float64) @ right.astype(np.float64))
    return Subject(folder, {PRODUCT: size**3}, {}, {})


def read_spec(folder: Path) -> Spec:
    return msgspec.json.decode((folder / "spec.json").read_bytes(), type=Spec)


def seeded_model(spec: Spec) -> ParaFormer:
    """Random weights, the same in every process. Norms and biases are random too, so that none is 0 or 1."""
    import torch

    from paraexport.model.reference import ParaFormer

    torch.manual_seed(SEED)
    model = ParaFormer(spec).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return model.requires_grad_(requires_grad=False)


def write_answers(model: ParaFormer, folder: Path, batches: Sequence[int]) -> None:
    import torch

    size = (model.spec.channels, *model.spec.image_size)
    images = np.random.default_rng(SEED).standard_normal((max(batches), *size), np.float32)
    for batch in batches:
        np.save(folder / f"inputs-{batch}.npy", images[:batch])
        np.save(folder / f"float32-{batch}.npy", model(torch.from_numpy(images[:batch])).numpy())
    model.double()
    for batch in batches:
        np.save(folder / f"float64-{batch}.npy", model(torch.from_numpy(images[:batch]).double()).numpy())
    model.float()


def trace_branches(model: ParaFormer, path: Path) -> str:
    from paraexport.trace.trace import trace

    trace(model, model.spec, path)
    return ""


def rewrite_traced(_model: ParaFormer, path: Path) -> str:
    """Write the layout that the folder of `path` is named after."""
    from paraexport.rewrite import rewrite

    path.parent.rmdir()
    rewrite(path.parent.parent / OURS[0] / path.name, path.parent.name, path.parent)
    return ""


def export_plainly(model: ParaFormer, path: Path) -> str:
    """The plain export: torch.onnx.export with a free batch."""
    import torch

    from paraexport.trace.trace import quiet_exporter

    images = torch.zeros(2, model.spec.channels, *model.spec.image_size)
    with quiet_exporter(), torch.no_grad():
        torch.onnx.export(
            model, (images,), path, dynamo=True, opset_version=PLAIN_OPSET, input_names=["images"],
            output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False,
        )  # fmt: skip
    return ""


def optimize(model: ParaFormer, path: Path) -> str:
    """ONNX Runtime's transformer optimizer on the plain export. The note lists its fusions."""
    from onnxruntime.transformers import optimizer

    from paraexport.trace.trace import quiet_exporter

    plain = path.parent.parent / PLAIN / "model.onnx"
    with quiet_exporter():
        optimized = optimizer.optimize_model(
            str(plain), model_type="vit", num_heads=model.spec.heads, hidden_size=model.spec.dim, opt_level=0
        )
        optimized.save_model_to_file(str(path))
    fused = optimized.get_fused_operator_statistics()
    kept = {name: count for name, count in fused.items() if count and name != "LayerNormalization"}
    attentions = sum(count for name, count in kept.items() if "Attention" in name)
    listed = ", ".join(f"{count} {name}" for name, count in itertools.islice(sorted(kept.items()), 6))
    return f"fused {listed or 'nothing'}" + ("" if attentions else "; no attention")


RECIPES = {
    OURS[0]: Recipe(trace_branches),
    **{layout: Recipe(rewrite_traced, OURS[0]) for layout in OURS[1:]},
    PLAIN: Recipe(export_plainly),
    OPTIMIZED: Recipe(optimize, PLAIN, own_products=False),
}
