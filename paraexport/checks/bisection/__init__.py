"""Finds the part of a correct graph that a target computes wrongly.

A runtime fuses nodes, and the fault may be in such a fused group. So the graph is first cut into few parts: the stem,
each branch, the sum and head. Each part becomes a separate model, which is compiled if the target compiles. Its input
is right: the values that the graph has at the cut, computed node by node on the CPU. The part with the largest
difference is cut further, into layers and then into modules, as long as one of these differs by itself. If every part
alone is right, each is tried again together with everything before it.

Stacked branches share their nodes, so they are one part. Slices of its outputs give the difference of each branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from paraexport import targets
from paraexport.bundle import MODEL, Bundle
from paraexport.checks import engine_or_graph
from paraexport.checks.bisection.cut import Part, cut, up_to
from paraexport.checks.bisection.regions import finer, regions, scope, stacked_nodes
from paraexport.checks.bisection.runner import Runner, distance, finite
from paraexport.checks.bisection.values import Array, ReferenceGraph, forms
from paraexport.checks.verdicts import BATCH_SIZES
from paraexport.engine import Engine
from paraexport.findings.bisection import Bisection, PartDifference
from paraexport.findings.checks import Check
from paraexport.graph.onnx_file import load
from paraexport.system.memory import give_back
from paraexport.targets.compilation import EngineOptions
from paraexport.timing.clock import Progress, silent

USUAL = EngineOptions()
PARITY = "parity"


def bisect(
    bundle: Bundle, images: Array, *, limit: float, options: EngineOptions = USUAL, progress: Progress = silent
) -> Bisection:
    """Find the part of the model in `bundle` that the target computes differently from the graph.

    Args:
        images: [n, C, H, W]; they are repeated or cut to the batch size with the largest difference.
        limit: a part is wrong if max |Δ| / max |value| is larger.
        options: the options to compile the parts with, the same as for the engine; only for a target that compiles.
        progress: called with a line about the parts before they are tried.

    Raises:
        MissingError: the engine cannot run here.
    """
    reference, model = ReferenceGraph(engine_or_graph.load_with_rounding(bundle)), load(bundle.files.at(MODEL))
    images, whole = worst_batch(bundle, reference, images)
    cut_points = forms(model.graph, reference, images)
    runner = Runner(
        bundle=bundle,
        options=options,
        model=model,
        forms=cut_points,
        reference=reference,
        images=images,
        stacked=frozenset(stacked_nodes(model.graph, cut_points)),
    )
    parts = cut(model.graph, regions(model.graph, cut_points), cut_points)
    progress(f"bisect: {len(parts)} parts")
    tried = runner.differences(parts)
    culprit = worst(tried, limit)
    also: tuple[str, ...] = ()
    if culprit is not None:
        also = others(tried, culprit, limit)
        within, depth = next(part for part in parts if part.name == culprit.part), 0
        while (split := divide(runner, within, depth)) is not None:
            depth, inner = split
            progress(f"bisect: {within.name}, {len(inner)} parts")
            differences = runner.differences(inner, within.name)
            tried += differences
            if (deeper := worst(differences, limit)) is None:
                break
            also += others(differences, deeper, limit)
            culprit, within = deeper, next(part for part in inner if part.name == deeper.part)
    elif not whole <= limit:
        progress("bisect: from the images on")
        differences = runner.differences(up_to(model.graph, part, cut_points) for part in parts)
        tried += differences
        culprit = next((difference for difference in differences if difference.is_off(limit)), None)
    return Bisection(bundle.manifest.target, len(images), limit, finite(whole), tuple(tried), culprit, also)


def bisect_failure(
    bundle: Bundle,
    checks: Iterable[Check],
    images: Array,
    logits: Array,
    *,
    options: EngineOptions = USUAL,
    progress: Progress = silent,
) -> Bisection | None:
    """Bisect an engine that failed its checks.

    None if the graph is wrong too, or if the engine agrees with the graph, within the limit of the check `parity`.

    Args:
        images: [n, C, H, W].
        logits: PyTorch's logits for them, [n, classes].
    """
    limit = next(check.limit for check in checks if check.name == PARITY)
    compiler = targets.compiler(bundle.manifest.target)
    if (compiler and compiler.obstacle(bundle.files)) or targets.get("onnxruntime").availability().version is None:
        return None
    if not distance(logits, engine_or_graph.open_graph(bundle)(images)) <= limit:
        return None
    bisection = bisect(bundle, images, limit=limit, options=options, progress=progress)
    return None if bisection.whole is not None and bisection.whole <= limit else bisection


def worst_batch(bundle: Bundle, reference: ReferenceGraph, images: Array) -> tuple[Array, float]:
    """The images at the batch size with the largest difference of the whole engine, and this difference."""
    output, max_batch = bundle.manifest.outputs[0].name, bundle.manifest.max_batch
    optima = targets.optima(bundle.manifest.target, bundle.files)
    sizes = {min(size, max_batch) for size in (*BATCH_SIZES, *optima, len(images), max_batch)}
    batches = {size: np.resize(images, (size, *images.shape[1:])) for size in sorted(sizes)}
    answers = run_engine(bundle, batches)
    give_back(bundle.size_bytes)
    distances = {
        size: distance(reference.floats([output], batch)[output], answers[size]) for size, batch in batches.items()
    }
    worst_size = max(distances, key=lambda size: distances[size])
    return batches[worst_size], distances[worst_size]


def run_engine(bundle: Bundle, batches: Mapping[int, Array]) -> dict[int, Array]:
    """The answers of the engine. It is closed afterwards, so that memory never holds its weights and the graph's."""
    engine = Engine(bundle)
    return {size: engine(batch) for size, batch in batches.items()}


def worst(differences: list[PartDifference], limit: float) -> PartDifference | None:
    """The part with the largest difference, the first of equals; None if no part is wrong."""
    wrong = (difference for difference in differences if difference.is_off(limit))
    return max(wrong, key=lambda difference: difference.extent, default=None)


def others(differences: list[PartDifference], culprit: PartDifference, limit: float) -> tuple[str, ...]:
    """The names of the other wrong parts."""
    return tuple(
        difference.part for difference in differences if difference.is_off(limit) and difference is not culprit
    )


def divide(runner: Runner, part: Part, depth: int) -> tuple[int, list[Part]] | None:
    """Divide a part at the first level of names below `depth` that has several parts.

    Returns the level and its parts, or None if the part cannot be divided.
    """
    graph, cut_points = runner.model.graph, runner.forms
    outside = {node: f"outside, {label}" for node, label in regions(graph, cut_points).items()}
    for deeper in range(depth + 1, 1 + max(len(scope(node)) for node in part.nodes)):
        parts = cut(graph, {**outside, **finer(part.nodes, deeper)}, cut_points)
        inner = [candidate for candidate in parts if candidate.nodes <= part.nodes]
        if len(inner) > 1:
            return deeper, inner
    return None
