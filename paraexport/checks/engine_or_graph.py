"""The checks of a build: of the engine where it can run, else of the graph that it was compiled from.

An engine that was compiled ahead of time, for another machine, cannot be checked on this one. Its checks are then not
run, with the reason; the same checks run on `model.onnx` in ONNX Runtime on the CPU, under names of their own: they
find a wrong graph, and say nothing of what the compiler made of a right one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from paraexport import targets
from paraexport.bundle import MODEL, Bundle
from paraexport.bundle.records import Manifest
from paraexport.checks import comparison
from paraexport.checks.comparison import Evidence, Logits, Lowered, Outcome
from paraexport.engine import Engine
from paraexport.errors import MissingError
from paraexport.findings.checks import Check
from paraexport.targets.folder import Folder

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH, PLAN = "graph_", "plan_"
OF_GRAPH = ("parity", "batches", "cosine", "disagreement", "accuracy_drop")
"""Checks that say something of a graph wherever it runs."""
OF_PLAN = ("not_int8",)
"""Checks of what the compiled plan lists: of what it is meant to do, not of what it did."""
OF_BUILD = ("rounding",)
"""Checks that say the same without any engine."""


def run_checks(made: Bundle, evidence: Evidence, moved: Mapping[str, float]) -> Outcome:
    """Every check of the bundle's precision.

    Raises:
        MissingError: neither the engine nor the graph can run here.
    """
    manifest = made.manifest
    compiler = targets.compiler(manifest.target)
    reason = compiler.obstacle(made.files) if compiler else ""
    evidence = dataclasses.replace(evidence, batches=targets.optima(manifest.target, made.files))
    try:
        evidence = dataclasses.replace(evidence, lowered=read_back(made.files, manifest))
    except MissingError:
        if not reason:
            raise
    if reason:
        return of_graph(made, evidence, moved, reason)
    return comparison.run_checks(manifest.precision, Engine(made), evidence, max_batch=manifest.max_batch, moved=moved)


def of_graph(made: Bundle, evidence: Evidence, moved: Mapping[str, float], reason: str) -> Outcome:
    manifest = made.manifest
    here = targets.get("onnxruntime").availability()
    if here.version is None:
        raise MissingError(
            f"nothing can be checked here: {reason}, and {here.missing}",
            where=f"target {manifest.target}",
            remedy=f"{here.remedy}, which checks the graph",
        )
    outcome = comparison.run_checks(
        manifest.precision, open_graph(made), evidence, max_batch=manifest.max_batch, moved=moved
    )
    of_engine = [one if one.name in OF_BUILD else not_run(one, reason) for one in outcome.checks]
    renamed = {**{name: f"{GRAPH}{name}" for name in OF_GRAPH}, **{name: f"{PLAN}{name}" for name in OF_PLAN}}
    others = [
        dataclasses.replace(one, name=renamed[one.name])
        for one in outcome.checks
        if one.name in OF_GRAPH or (one.name in OF_PLAN and one.passed is not None)
    ]
    # Nobody knows how accurate the engine is.
    unlabelled = dataclasses.replace(outcome.comparison, labelled=0)
    return Outcome((*of_engine, *others), unlabelled)


def not_run(check: Check, reason: str) -> Check:
    return dataclasses.replace(check, value=None, samples=0, passed=None, reason=f"not run: {reason}")


def open_graph(made: Bundle) -> Logits:
    """`model.onnx` node by node on the CPU, as it is written."""
    from paraexport.targets.ort.probe import open_probe

    model = as_written(made)
    run = open_probe(model, [model.graph.outputs[0].name or ""], optimised=False)
    return lambda images: run(images)[0]


def as_written(made: Bundle) -> ir.Model:
    """`model.onnx` for the CPU, with every rounding to half, which runtimes leave out; its values keep their names."""
    from paraexport.graph.onnx_file import load
    from paraexport.precision.half import cpu_emulation
    from paraexport.precision.half.formats import HALF_FORMATS

    model = load(made.files.at(MODEL))
    for kind in HALF_FORMATS:
        if kind == made.manifest.precision:
            cpu_emulation.emulate_rounding(model.graph, kind)
    return model


def read_back(folder: Folder, manifest: Manifest) -> Lowered | None:
    """What the target makes of the products that are to run in int8; None in other precisions."""
    lowering = manifest.lowering
    if manifest.precision != "int8" or lowering is None or not lowering.products:
        return None
    low = targets.get(manifest.target).int8_products(folder)
    return Lowered(
        len(lowering.products),
        sum(lowering.products.values()),
        low if isinstance(low, str) else sum(count for name, count in lowering.products.items() if name in low),
    )
