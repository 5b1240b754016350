"""Which part of a right graph a target computes wrongly: each part alone on the target, beside the graph node by node.

A runtime fuses nodes, and the fault may lie in what it makes of several. So the graph is cut in few places: the stem,
each branch, the sum and head. Each part is a model of its own, compiled where the target compiles, and is given the
right input: the values that the graph has there, node by node. The part that is off the most is cut further, into
layers and then into their modules, as long as one of these is still off by itself. Where every part alone is right,
each is tried together with all that is before it.

Stacked branches share their nodes. They are one part, and slices of what it gives tell them apart.
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
from paraexport.checks.bisection.values import Array, Reference, forms
from paraexport.checks.comparison import BATCH_SIZES
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
    made: Bundle, images: Array, *, limit: float, options: EngineOptions = USUAL, progress: Progress = silent
) -> Bisection:
    """Find the part of `made` that its target computes otherwise than the graph says.

    Args:
        images: [n, C, H, W]; repeated or cut to the batch at which the whole engine is off the most.
        limit: from where on a part is off: max |Δ| / max |value|.
        options: how the engine was compiled, and its parts are, for a target that compiles.
        progress: told of the parts that are tried.

    Raises:
        MissingError: the engine cannot run here.
    """
    reference, model = Reference(engine_or_graph.as_written(made)), load(made.files.at(MODEL))
    images, whole = worst_batch(made, reference, images)
    possible = forms(model.graph, reference, images)
    runner = Runner(
        made=made,
        options=options,
        model=model,
        forms=possible,
        reference=reference,
        images=images,
        stacked=frozenset(stacked_nodes(model.graph, possible)),
    )
    parts = cut(model.graph, regions(model.graph, possible), possible)
    progress(f"bisect: {len(parts)} parts")
    found = runner.differences(parts)
    culprit = worst(found, limit)
    also: tuple[str, ...] = ()
    if culprit is not None:
        also = others(found, culprit, limit)
        within, depth = next(part for part in parts if part.name == culprit.part), 0
        while (split := divided(runner, within, depth)) is not None:
            depth, inner = split
            progress(f"bisect: {within.name}, {len(inner)} parts")
            tried = runner.differences(inner, within.name)
            found += tried
            if (deeper := worst(tried, limit)) is None:
                break
            also += others(tried, deeper, limit)
            culprit, within = deeper, next(part for part in inner if part.name == deeper.part)
    elif not whole <= limit:
        progress("bisect: from the images on")
        longer = runner.differences(up_to(model.graph, part, possible) for part in parts)
        found += longer
        culprit = next((one for one in longer if one.is_off(limit)), None)
    return Bisection(made.manifest.target, len(images), limit, finite(whole), tuple(found), culprit, also)


def of_failure(
    made: Bundle,
    checks: Iterable[Check],
    images: Array,
    logits: Array,
    *,
    options: EngineOptions = USUAL,
    progress: Progress = silent,
) -> Bisection | None:
    """Where an engine that failed checks goes wrong; None where its graph is wrong too, or the engine is as the graph.

    The graph is right, and a part not off, within the limit of the check `parity`.

    Args:
        images: [n, C, H, W], of which PyTorch's `logits` are [n, classes].
    """
    limit = next(one.limit for one in checks if one.name == PARITY)
    compiler = targets.compiler(made.manifest.target)
    if (compiler and compiler.obstacle(made.files)) or targets.get("onnxruntime").availability().version is None:
        return None
    if not distance(logits, engine_or_graph.open_graph(made)(images)) <= limit:
        return None
    found = bisect(made, images, limit=limit, options=options, progress=progress)
    return None if found.whole is not None and found.whole <= limit else found


def worst_batch(made: Bundle, reference: Reference, images: Array) -> tuple[Array, float]:
    """The images at the batch at which the engine is off the most, and by how much."""
    output = made.manifest.outputs[0].name
    most_at_once, chosen = made.manifest.max_batch, targets.optima(made.manifest.target, made.files)
    sizes = {min(size, most_at_once) for size in (*BATCH_SIZES, *chosen, len(images), most_at_once)}
    tried = {size: np.resize(images, (size, *images.shape[1:])) for size in sorted(sizes)}
    answers = answers_to(made, tried)
    give_back(made.size_bytes)
    off = {size: distance(reference.floats([output], batch)[output], answers[size]) for size, batch in tried.items()}
    most = max(off, key=lambda size: off[size])
    return tried[most], off[most]


def answers_to(made: Bundle, batches: Mapping[int, Array]) -> dict[int, Array]:
    """What the engine answers; it is closed afterwards, so that its weights are not held beside those of the graph."""
    engine = Engine(made)
    return {size: engine(batch) for size, batch in batches.items()}


def worst(found: list[PartDifference], limit: float) -> PartDifference | None:
    """The part that is off the most; the first of those that are off alike; None where none is."""
    return max((one for one in found if one.is_off(limit)), key=lambda one: one.extent, default=None)


def others(found: list[PartDifference], culprit: PartDifference, limit: float) -> tuple[str, ...]:
    return tuple(one.part for one in found if one.is_off(limit) and one is not culprit)


def divided(runner: Runner, part: Part, depth: int) -> tuple[int, list[Part]] | None:
    """Finer parts, at the first depth of names beyond `depth` at which there are several; None at the end."""
    graph, possible = runner.model.graph, runner.forms
    outside = {node: f"outside, {label}" for node, label in regions(graph, possible).items()}
    for deeper in range(depth + 1, 1 + max(len(scope(node)) for node in part.nodes)):
        found = cut(graph, {**outside, **finer(part.nodes, deeper)}, possible)
        inner = [one for one in found if one.nodes <= part.nodes]
        if len(inner) > 1:
            return deeper, inner
    return None
