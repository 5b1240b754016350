"""Operators that work number by number: which layout all of their inputs can take, and each input in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from paraexport.graph.naming import beside
from paraexport.graph.refusal import Refused
from paraexport.rewrite.stacking.views import (
    FULL,
    SPLIT,
    Constants,
    Plan,
    Shared,
    Sizes,
    Source,
    Stacked,
    Step,
    View,
    are_equal,
    padded,
)


def elementwise(
    plan: Plan, op_type: str, views: Sequence[View | None], *, sizes: Sizes, name: str, dtype: ir.DataType | None
) -> Stacked:
    """One node for all branches whose result has these sizes, in the layout that moves least."""
    given = [view for view in views if view is not None]
    present = list(dict.fromkeys(view.layout for view in given if isinstance(view, Stacked)))
    layouts = [*(present if len(present) == 1 and present[0] != FULL else []), SPLIT, FULL]
    layout = next(layout for layout in layouts if all(fits(view, layout, sizes) for view in given))
    sources = [operand(plan, view, layout, sizes, name) for view in given]
    return Stacked(Step(op_type, tuple(sources), {}, name, plan.shape(sizes, layout), dtype), sizes, layout)


def fits(view: View, layout: int, sizes: Sizes) -> bool:
    """Whether the view can be written so that it broadcasts against the result in this layout."""
    if layout == FULL:
        return True
    if not sizes:
        return False
    if not isinstance(view, Constants):
        if layout == SPLIT or isinstance(view, Stacked):
            return are_equal(view.sizes, sizes)
        return len(view.sizes) == len(sizes) and view.sizes[layout] == 1
    shape = padded(view.shape, len(sizes))
    if layout == SPLIT:
        return all(size == 1 for size in shape[:-1])
    return isinstance(sizes[layout], int) or (view.equal and shape[layout] == 1)


def operand(plan: Plan, view: View | None, layout: int, sizes: Sizes, name: str) -> Source:
    """The view as an input of a node whose result has these sizes in this layout."""
    if isinstance(view, Constants):
        return constant(plan, view, layout, sizes, name)
    if isinstance(view, Shared):
        return plan.shared_rows(view, name) if layout == SPLIT else view.source
    if view is None:
        raise Refused("an input is missing")
    if layout == FULL and len(view.sizes) < len(sizes):
        wide = Stacked(view.source, (*(1,) * (len(sizes) - len(view.sizes)), *view.sizes), view.layout)
        if view.layout > 0:
            raise Refused("an input of fewer axes than the result")
        return plan.convert(wide, FULL)
    return plan.laid_out(view, layout).source


def constant(plan: Plan, view: Constants, layout: int, sizes: Sizes, name: str) -> Source:
    """Equal constants as they are where that broadcasts; else side by side, [L, 1, J] in SPLIT."""
    shape, label = padded(view.shape, len(sizes)), beside(name, "weight")
    arrays = [array.reshape(shape) for array in view.arrays]
    if layout < 0:
        if view.equal:
            return view.values[0] if layout == FULL or len(view.shape) <= 1 else flat(plan, view, label)
        return plan.weight([array.reshape(1, -1) for array in arrays] if layout == SPLIT else arrays, None, label)
    if view.equal and shape[layout] == 1:
        return view.values[0]
    length = sizes[layout]
    assert isinstance(length, int)
    wide = [*shape[:layout], length, *shape[layout + 1 :]]
    return plan.weight([np.broadcast_to(array, wide) for array in arrays], layout, label)


def flat(plan: Plan, view: Constants, label: str) -> Source:
    """A constant [1, …, J] as [J]."""
    return plan.weight([view.arrays[0].reshape(-1)], 0, label)
