"""Which parts stay in float32: the fewest with which no more accuracy is lost than was allowed.

The logits with some parts kept are told without running the model again: the error at the sum is what the lowered parts
add to it (`errors_at_sum`), and the head alone turns the sum into logits. So many choices can be tried, smallest first;
the one that is taken is confirmed by the lowered model itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from paraexport.graph.edit import clean
from paraexport.precision.data import Judge
from paraexport.precision.int8.errors_at_sum import Errors, norm
from paraexport.targets.ort.probe import open_probe

Array = NDArray[np.float32]
MOST_TRIED = 2000
"""Choices of one size that are looked at; where there are more, those among the parts with the largest errors."""
MOST_CONFIRMED = 3


@dataclass(frozen=True)
class Plan:
    """The parts to keep, and what is lost with them."""

    kept: tuple[str, ...]
    lost: float
    met: bool
    """Whether that is within what was allowed; if not, this is the best that was found."""


def smallest(
    errors: Errors,
    head: Callable[[Array], Array],
    judge: Judge,
    allowed: float,
    confirm: Callable[[tuple[str, ...]], float],
) -> Plan:
    """The fewest parts to keep, at least one being lowered; `confirm` measures what a choice really loses."""
    best = Plan((), math.inf, met=False)
    likely: tuple[float, tuple[str, ...]] = (math.inf, ())
    for size in range(len(errors.parts)):
        promising = []
        for kept in choices(errors, size):
            rest = errors.with_kept(kept)
            expected = judge.lost(head(errors.total + rest))
            likely = min(likely, (expected, kept), key=lambda one: one[0])
            if expected <= allowed:
                promising.append((norm(rest), kept))
        if not promising and not size:
            promising.append((0.0, ()))  # so that what is lost without a plan is known
        for _, kept in sorted(promising)[:MOST_CONFIRMED]:
            lost = confirm(kept)
            if lost <= allowed:
                return Plan(kept, lost, met=True)
            best = min(best, Plan(kept, lost, met=False), key=lambda plan: plan.lost)
    # Nothing was: so that the best is not only of what looked good enough.
    lost = confirm(likely[1])
    return min(best, Plan(likely[1], lost, met=lost <= allowed), key=lambda plan: plan.lost)


def choices(errors: Errors, size: int) -> Iterator[tuple[str, ...]]:
    """Sets of `size` parts."""
    worst = sorted(errors.parts, key=lambda part: -norm(errors.parts[part]))
    among = max(count for count in range(size, len(worst) + 1) if math.comb(count, size) <= MOST_TRIED or count == size)
    yield from itertools.combinations(worst[:among], size)


def head_of(model: ir.Model, total: str) -> Callable[[Array], Array]:
    """The graph from its value `total` on, [N, …] -> logits [N, classes]."""
    head = model.clone()
    graph = head.graph
    value = next(value for node in graph for value in node.outputs if value.name == total)
    given = ir.Value(name=f"{total}/given", shape=value.shape, type=value.type)
    value.replace_all_uses_with(given)
    graph.inputs[:] = [given]
    clean(graph)
    run = open_probe(head, [graph.outputs[0].name or ""])
    return lambda sums: run(sums)[0]


def logits_of(model: ir.Model, batches: Sequence[Array]) -> Array:
    """The whole graph on batches of images."""
    with open_probe(model, [model.graph.outputs[0].name or ""]) as run:
        return np.concatenate([run(images)[0] for images in batches])
