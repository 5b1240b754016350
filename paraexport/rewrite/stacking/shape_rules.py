"""The rules of operators that move numbers, or work along one axis: what becomes of the branches inside an axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir as ir

from paraexport.graph.attributes import attribute, axis_of, counted, int_of, ints_of
from paraexport.graph.refusal import Refused
from paraexport.rewrite.stacking.batching import Place, Rule, is_same, on_branches, parameters, stacked
from paraexport.rewrite.stacking.views import SAMPLES, Constants, Stacked, View, known, product

Views = list[View | None]
AxesOf = Callable[[ir.Node, Views], Sequence[int] | None]
"""The axes along which a node works; None for all."""


def transpose(place: Place, inputs: Views) -> View:
    view = on_branches(place, inputs[0])
    view = view if view.layout >= 0 else place.plan.laid_out(view, SAMPLES)
    order = ints_of(place.first, "perm", tuple(reversed(range(len(view.sizes)))))
    if sorted(order) != [*range(len(view.sizes))]:
        raise Refused(f"it orders the axes {list(order)} of {len(view.sizes)}")
    return stacked(place, [view.source], order.index(view.layout))


def reshape(place: Place, inputs: Views) -> View:
    """Where the numbers after the branches stay together, the branches stay inside; else they become samples first.

    With L outermost in axis a the numbers are ordered as (what is before a, L, a and what is after). A Reshape keeps
    that order, so L is outermost in the axis of the result that has as many numbers from it on.
    """
    view = on_branches(place, inputs[0])
    plan, sizes = place.plan, place.sizes
    layout = SAMPLES
    if view.layout > 0:
        rest = product(view.sizes[view.layout :])
        fits = [axis for axis in range(1, len(sizes)) if rest is not None and product(sizes[axis:]) == rest]
        layout = fits[-1] if fits else SAMPLES
        view = view if fits else plan.laid_out(view, SAMPLES)
    known(sizes[1:], "the result")
    step = plan.reshape(view.source, plan.target(sizes, layout), plan.shape(sizes, layout), place.name)
    return Stacked(step, sizes, layout)


def concat(place: Place, inputs: Views) -> View:
    if axis_of(place.first, len(place.sizes)) == 0:
        raise Refused("it works along the first axis, where the batch is")
    views = [place.plan.laid_out(on_branches(place, view), SAMPLES) for view in inputs]
    return stacked(place, [view.source for view in views], SAMPLES)


def along(axes_of: AxesOf) -> Rule:
    """The rule of an operator that works along some axes, keeps or drops them, and leaves the others alone."""

    def rule(place: Place, inputs: Views) -> View:
        view = on_branches(place, inputs[0])
        rank, given = len(view.sizes), axes_of(place.first, inputs)
        axes = [counted(axis, rank) for axis in (range(rank) if given is None else given)]
        if 0 in axes or not axes:
            raise Refused("it works along the first axis, where the batch is")
        if view.layout < 0 or view.layout in axes:
            view = place.plan.laid_out(view, SAMPLES)
        dropped_each = (rank - len(place.sizes)) // len(axes)
        layout = view.layout - dropped_each * sum(axis < view.layout for axis in axes)
        return stacked(place, [view.source, *parameters(inputs[1:])], layout)

    return rule


def sliced_axes(_node: ir.Node, inputs: Views) -> Sequence[int] | None:
    return constant_axes(inputs, 3)


def reduced_axes(node: ir.Node, inputs: Views) -> Sequence[int] | None:
    given = attribute(node, "axes")
    return (given if isinstance(given, Sequence) else constant_axes(inputs, 1)) or None


def constant_axes(inputs: Views, index: int) -> list[int] | None:
    view = inputs[index] if len(inputs) > index else None
    if view is None:
        return None
    if not isinstance(view, Constants) or not is_same(view):
        raise Refused("its axes are not constant")
    return [int(axis) for axis in view.arrays[0].ravel()]


SHAPE_RULES: dict[str, Rule] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), along(reduced_axes)),
    "Concat": concat,
    "Gather": along(lambda node, _: [int_of(node, "axis", 0)]),
    "Slice": along(sliced_axes),
    "Softmax": along(lambda node, _: [int_of(node, "axis", -1)]),
    "Transpose": transpose,
}
