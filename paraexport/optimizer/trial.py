"""Compares a rewritten graph with its original file. If they differ, finds the pass with the fault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx_ir as ir

from paraexport.errors import CheckFailed, InputError, shortlist
from paraexport.findings.checks import Check
from paraexport.graph.onnx_file import save
from paraexport.optimizer import requirements
from paraexport.optimizer.requirements import OnnxSource
from paraexport.optimizer.self_check import (
    ALLOWED_ROUNDINGS,
    LIMIT,
    CaseDifference,
    ReferenceAnswers,
    as_check,
    open_graph,
)
from paraexport.rewrite import Step, applied

JUMPS = frozenset(
    {
        "ArgMax", "ArgMin", "Ceil", "Equal", "Floor", "Greater", "GreaterOrEqual", "Hardmax", "Less", "LessOrEqual",
        "Mod", "Round", "Sign", "TopK",
    }
)  # fmt: skip
"""Operators whose result can jump if their input changes by a rounding."""


class Trial:
    """Compares rewritten graphs with the file that they come from."""

    def __init__(self, source: OnnxSource, folder: Path, reference: ReferenceAnswers) -> None:
        self.source, self.folder, self.reference = source, folder, reference

    def require_passed(self, model: ir.Model, name: str, steps: Sequence[Step]) -> Check:
        """Write `model` as `name` and compare it with the file.

        Raises:
            CheckFailed: it is not valid, does not run or gives different answers. The message names the faulty pass.
            InputError: the file's own answers change too much with rounding.
        """
        try:
            differences = self.differences(model, name)
        except InputError as error:
            raise CheckFailed(
                "the rewritten graph does not run", where=self.source.path, got=error.got, remedy=self.blame(steps)
            ) from error
        check = as_check(differences)
        failed = [difference for difference in differences if not difference.passed]
        if not failed:
            return check
        worst = max(failed, key=lambda difference: difference.value / difference.limit)
        self.require_stable(failed)
        failure = CheckFailed(
            "the rewritten graph gives different answers",
            where=self.source.path,
            expected=f"{check.unit} at most {worst.limit:g}",
            got=f"{worst.value:.3g} on {worst.case}, and too much on {len(failed)} of {len(differences)} inputs",
            remedy=self.blame(steps),
        )
        failure.checks = (check,)
        raise failure

    def require_stable(self, failed: Sequence[CaseDifference]) -> None:
        """Refuse a file whose own answers differ as much: no rewrite of it can be checked.

        Raises:
            InputError: on each case of `failed`, a change of the weights by their last bit changes the answers as much.
        """
        moved = open_graph(self.source.path, self.source.images.name, moved=True)
        shifts = [self.reference.own_shift(moved, difference.case) for difference in failed]
        if any(difference.value > ALLOWED_ROUNDINGS * shift for difference, shift in zip(failed, shifts, strict=True)):
            return
        jumps = [
            node.name or node.op_type for node in requirements.read(self.source.path).model.graph if can_jump(node)
        ]
        place = f" (here {shortlist(jumps, requirements.MOST_SHOWN)})" if jumps else ""
        raise InputError(
            "the rewritten graph cannot be checked: rounding alone changes the answers of the original file",
            where=self.source.path,
            expected=f"answers that change by at most {LIMIT.value:g} when the weights change by their last bit",
            got=f"{max(shifts):.3g} on {failed[0].case}",
            remedy=f"nothing was written; move rounding and comparisons{place} out of the model",
        )

    def differences(self, model: ir.Model, name: str) -> list[CaseDifference]:
        path = self.folder / name
        save(model, path)
        return [*self.reference.differences(open_graph(path, self.source.images.name))]

    def blame(self, steps: Sequence[Step]) -> str:
        """Name in one clause the first pass after which the graph is wrong. Applies the passes again, one by one."""
        model = requirements.read(self.source.path).model
        name = "the writing of the file"
        for step in applied(model, steps):
            try:
                right = all(difference.passed for difference in self.differences(model, "step.onnx"))
            except InputError:
                right = False
            if not right:
                name = f"the pass {step.name}"
                break
        return f"nothing was written; it is wrong from {name} on: report this as a bug, with the file"


def can_jump(node: ir.Node) -> bool:
    target = requirements.cast_dtype(node)
    return node.op_type in JUMPS or (target is not None and not target.is_floating_point())
