"""Compares a rewritten graph with the file that it came from, and finds the pass to blame when they differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from paraexport.errors import CheckFailed, InputError
from paraexport.findings.checks import Check
from paraexport.graph.onnx_file import save
from paraexport.optimizer import requirements
from paraexport.optimizer.requirements import Source
from paraexport.optimizer.self_check import ALLOWED_ROUNDINGS, LIMIT, Difference, Reference, as_check, open_graph
from paraexport.rewrite import Step, applied

JUMPS = frozenset(
    {
        "ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "Less", "LessOrEqual",
        "Mod", "Round", "Sign", "TopK",
    }
)  # fmt: skip
"""Operators whose result jumps when their input changes by a rounding."""


class Trial:
    """Rewritten graphs against the file that they came from."""

    def __init__(self, source: Source, folder: Path, reference: Reference) -> None:
        self.source, self.folder, self.reference = source, folder, reference

    def require_passed(self, model: ir.Model, name: str, steps: Sequence[Step]) -> Check:
        """Write `model` as `name` and compare it.

        Raises:
            CheckFailed: it is not valid, does not run or answers otherwise; it names the pass from which on.
        """
        try:
            found = self.differences(model, name)
        except InputError as error:
            raise CheckFailed(
                "the rewritten graph does not run", where=self.source.path, got=error.got, remedy=self.blame(steps)
            ) from error
        check = as_check(found)
        failed = [one for one in found if not one.passed]
        if not failed:
            return check
        worst = max(failed, key=lambda one: one.value / one.limit)
        self.require_stable(failed)
        failure = CheckFailed(
            "the rewritten graph answers otherwise",
            where=self.source.path,
            expected=f"{check.unit} at most {worst.limit:g}",
            got=f"{worst.value:.3g} on {worst.case}, and too much on {len(failed)} of {len(found)} inputs",
            remedy=self.blame(steps),
        )
        failure.checks = (check,)
        raise failure

    def require_stable(self, failed: Sequence[Difference]) -> None:
        """Refuse a graph that differs as much from itself: no rewrite of it can be checked.

        Raises:
            InputError: on each case of `failed`, its weights moved by their last bit change its answers that much too.
        """
        moved = open_graph(self.source.path, self.source.images.name, moved=True)
        shifts = [self.reference.own_shift(moved, difference.case) for difference in failed]
        if any(d.value > ALLOWED_ROUNDINGS * shift for d, shift in zip(failed, shifts, strict=True)):
            return
        jumps = [node.name or node.op_type for node in requirements.read(self.source.path).model.graph if jumpy(node)]
        place = f" (here {requirements.some(jumps)})" if jumps else ""
        raise InputError(
            "the rewritten graph cannot be checked: rounding alone changes the answers of the file itself",
            where=self.source.path,
            expected=f"answers that change by at most {LIMIT.value:g} when the weights change by their last bit",
            got=f"{max(shifts):.3g} on {failed[0].case}",
            remedy=f"nothing was written; round or compare{place} after the model, not in it",
        )

    def differences(self, model: ir.Model, name: str) -> list[Difference]:
        path = self.folder / name
        save(model, path)
        return [*self.reference.differences(open_graph(path, self.source.images.name))]

    def blame(self, steps: Sequence[Step]) -> str:
        """One clause on the first pass after which the graph is wrong; the passes are applied anew, one by one."""
        model = requirements.read(self.source.path).model
        name = "the writing of the file"
        for done in applied(model, steps):
            try:
                fine = all(one.passed for one in self.differences(model, "step.onnx"))
            except InputError:
                fine = False
            if not fine:
                name = f"the pass {done.name}"
                break
        return f"nothing was written; it is wrong from {name} on: report this as a bug, with the file"


def jumpy(node: ir.Node) -> bool:
    target = requirements.cast_dtype(node)
    return node.op_type in JUMPS or (target is not None and not target.is_floating_point())
