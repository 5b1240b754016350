"""Checks the engine of a build, or its graph if the engine cannot run on this machine.

An engine that was compiled for another machine cannot run here, so its checks are listed as not run, with the reason.
Instead, the same checks run on `model.onnx` in ONNX Runtime on the CPU, under other names. They find a wrong graph, but
not an error of the compiler.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

from paraexport import targets
from paraexport.bundle import MODEL, Bundle
from paraexport.bundle.records import Manifest
from paraexport.checks import verdicts
from paraexport.checks.comparison import Logits
from paraexport.checks.verdicts import Evidence, Int8Coverage, Outcome
from paraexport.engine import Engine
from paraexport.errors import MissingError
from paraexport.findings.checks import Check
from paraexport.targets.folder import Folder
from paraexport.timing.first_look import median_ms

if TYPE_CHECKING:
    import onnx_ir as ir

GRAPH, PLAN = "graph_", "plan_"
"""Prefixes of the names of checks that do not run the engine."""
GRAPH_CHECKS = ("parity", "batches", "cosine", "disagreement", "accuracy_drop")
"""Checks that are meaningful for a graph on any runtime."""
PLAN_CHECKS = ("not_int8",)
"""Checks of the compiled plan as its file lists it, without running it."""
BUILD_CHECKS = ("rounding",)
"""Checks that the build makes without an engine."""


def run_checks(bundle: Bundle, evidence: Evidence, moved: Mapping[str, float]) -> Outcome:
    """Run every check of the bundle's precision, and time the engine. `moved` has limits that replace the usual ones.

    Raises:
        MissingError: neither the engine nor the graph can run here.
    """
    manifest = bundle.manifest
    compiler = targets.compiler(manifest.target)
    reason = compiler.obstacle(bundle.files) if compiler else ""
    evidence = dataclasses.replace(evidence, batches=targets.optima(manifest.target, bundle.files))
    try:
        evidence = dataclasses.replace(evidence, int8=read_int8_coverage(bundle.files, manifest))
    except MissingError:
        if not reason:
            raise
    if reason:
        return check_graph(bundle, evidence, moved, reason)
    engine, image = Engine(bundle), evidence.images[:1]
    outcome = verdicts.run_checks(manifest.precision, engine, evidence, max_batch=manifest.max_batch, moved=moved)
    return dataclasses.replace(outcome, latency_ms=median_ms(lambda: engine(image)))


def check_graph(bundle: Bundle, evidence: Evidence, moved: Mapping[str, float], reason: str) -> Outcome:
    """Check the graph, because the engine cannot run here for this `reason`."""
    manifest = bundle.manifest
    here = targets.get("onnxruntime").availability()
    if here.version is None:
        raise MissingError(
            f"nothing can be checked here: {reason}, and {here.missing}",
            where=f"target {manifest.target}",
            remedy=f"{here.remedy}, to check the graph instead",
        )
    outcome = verdicts.run_checks(
        manifest.precision, open_graph(bundle), evidence, max_batch=manifest.max_batch, moved=moved
    )
    engine_checks = [check if check.name in BUILD_CHECKS else not_run(check, reason) for check in outcome.checks]
    renamed = {name: f"{GRAPH}{name}" for name in GRAPH_CHECKS} | {name: f"{PLAN}{name}" for name in PLAN_CHECKS}
    graph_checks = [
        dataclasses.replace(check, name=renamed[check.name])
        for check in outcome.checks
        if check.name in GRAPH_CHECKS or (check.name in PLAN_CHECKS and check.passed is not None)
    ]
    # The answers of the graph say nothing about the answers of the engine.
    unlabelled = dataclasses.replace(outcome.comparison, labelled=0, outputs=None)
    return Outcome((*engine_checks, *graph_checks), unlabelled)


def not_run(check: Check, reason: str) -> Check:
    return dataclasses.replace(check, value=None, samples=0, passed=None, reason=f"not run: {reason}")


def open_graph(bundle: Bundle) -> Logits:
    """A function that runs `model.onnx` node by node on the CPU, without optimisations."""
    from paraexport.targets.ort.probe import open_probe

    model = load_with_rounding(bundle)
    run = open_probe(model, [model.graph.outputs[0].name or ""], optimised=False)
    return lambda images: run(images)[0]


def load_with_rounding(bundle: Bundle) -> ir.Model:
    """`model.onnx` for the CPU, with every rounding to half. Runtimes on a CPU skip these. Values keep their names."""
    from paraexport.graph.onnx_file import load
    from paraexport.precision.half import cpu_emulation
    from paraexport.precision.half.formats import HALF_FORMATS

    model = load(bundle.files.at(MODEL))
    for kind in HALF_FORMATS:
        if kind == bundle.manifest.precision:
            cpu_emulation.emulate_rounding(model.graph, kind)
    return model


def read_int8_coverage(folder: Folder, manifest: Manifest) -> Int8Coverage | None:
    """How many of the products that are meant for int8 the target runs in int8; None in other precisions."""
    lowering = manifest.lowering
    if manifest.precision != "int8" or lowering is None or not lowering.products:
        return None
    names = targets.get(manifest.target).int8_products(folder)
    return Int8Coverage(
        products=len(lowering.products),
        planned=sum(lowering.products.values()),
        actual=names
        if isinstance(names, str)
        else sum(count for name, count in lowering.products.items() if name in names),
    )
