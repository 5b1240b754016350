"""The kernels of every model that is predicted. A graph is written once, and a model of any L is read from it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from paraexport.bench.predict.layouts import FEW, LAYOUTS, LayoutGraphs, write_layouts
from paraexport.graph.kernels import Kernel, with_branches
from paraexport.model.spec import Spec


@functools.cache
def few_branches(spec: Spec, layouts: tuple[str, ...]) -> LayoutGraphs:
    return write_layouts(spec, layouts)


@functools.cache
def few_kernels(spec: Spec, layout: str, batch: int, layouts: tuple[str, ...]) -> Sequence[Kernel]:
    return few_branches(spec, layouts).kernels(layout, batch)


def kernels_of(
    spec: Spec, layout: str, batch: int, layouts: tuple[str, ...] = LAYOUTS, branches: int | None = None
) -> Sequence[Kernel]:
    """The kernels of a model.

    Args:
        layouts: all layouts that the caller needs of this model; others are not written.
        branches: instead of those of the spec.
    """
    wanted = branches or spec.branches
    few = dataclasses.replace(spec, branches=min(wanted, FEW))
    kernels = few_kernels(few, layout, batch, layouts)
    return kernels if wanted == few.branches else with_branches(kernels, few.branches, wanted)
