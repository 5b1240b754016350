"""Adds the models with fewer branches to a bundle: `--branches-at-load`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport.bundle import Bundle, metadata
from paraexport.bundle.records import FewerBranches, Manifest
from paraexport.checks import engine_or_graph, verdicts
from paraexport.errors import SpecError
from paraexport.findings.branches import BranchReport, FirstBranches
from paraexport.findings.costs import CostReport
from paraexport.images.dataset import Samples
from paraexport.model.branch_choice import AT_LOAD, smaller_counts
from paraexport.pipeline import candidates, images
from paraexport.pipeline.candidates import Candidate
from paraexport.pipeline.images import Answers
from paraexport.pipeline.options import Options
from paraexport.pipeline.pytorch_run import PyTorchRun
from paraexport.targets.folder import MODEL, WEIGHTS, first_branches_model
from paraexport.timing.clock import Progress

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint


def counts(loaded: Checkpoint, options: Options) -> tuple[int, ...]:
    """Return the numbers of branches that the bundle will hold besides all.

    Raises:
        SpecError: the model was not recognised as a Para-Former, or has fewer branches.
    """
    if options.branches_at_load is None:
        return ()
    if loaded.spec is None:
        raise SpecError(
            "the module was not recognised as a Para-Former, so its branches are not known",
            where=AT_LOAD,
            remedy="leave it out",
        )
    return smaller_counts(options.branches_at_load, loaded.spec.branches)


def add(  # noqa: PLR0917
    traced: Path,
    chosen: Candidate,
    options: Options,
    judged: candidates.Images,
    logits: Mapping[int, NDArray[np.float32]],
    folder: Path,
    *,
    progress: Progress,
) -> tuple[FewerBranches, ...]:
    """Write the smaller models into the bundle's `folder`, which has the whole one. All share one file of weights.

    Each is what a build with so many `--branches` gives, for the target and layout of the whole model.

    Args:
        traced: the traced graph of the whole model.
        logits: PyTorch's logits of all images for each number of branches.
    """
    if not logits:
        return ()
    from paraexport.graph.shared_weights import share_weights
    from paraexport.trace.cut import first_branches

    smaller, copies, work = [], {chosen.folder / MODEL: folder / MODEL}, folder.parent
    for count in sorted(logits, reverse=True):
        progress(f"rewrite: first {count} of the branches")
        own, graph = work / f"first{count}", work / f"traced-first{count}" / MODEL
        for new in (own, graph.parent):
            new.mkdir()
        first_branches(traced, count, graph)
        keep = tuple(part for part in options.keep if is_within(part, count))
        layout, target = chosen.layout, chosen.target
        fixed = dataclasses.replace(
            options, target=target, layout=layout, keep=keep, branches=None, branches_at_load=None
        )
        images_of_count = dataclasses.replace(judged, logits=logits[count])
        (candidate,) = candidates.write(graph, fixed, (target,), own, images_of_count, progress=progress)
        file = first_branches_model(count)
        copies[candidate.folder / MODEL] = folder / file
        smaller.append(FewerBranches(branches=count, file=file, checks=(), lowering=candidate.lowering))
    share_weights(copies, folder / WEIGHTS)
    return tuple(reversed(smaller))


def is_within(part: str, count: int) -> bool:
    """Whether a part such as `branches.3/layers.1` belongs to the first `count` branches, or to none."""
    number = part.partition("/")[0].removeprefix("branches.")
    return not number.isdecimal() or int(number) < count


def add_metadata(folder: Path, manifest: Manifest) -> None:
    for file in (MODEL, *(model.file for model in manifest.fewer_branches)):
        metadata.add_to(folder / file, manifest)


@dataclass(frozen=True)
class Checked:
    """The smaller models after their checks, and a first look at the latency of each in ms, by its branches."""

    models: tuple[FewerBranches, ...]
    latency_ms: dict[int | None, float | None]


def check(bundle: Bundle, samples: Samples, pytorch: PyTorchRun, options: Options) -> Checked:
    """Run all checks on each smaller model.

    Raises:
        CheckFailed: one gives other results than PyTorch.
    """
    models: list[FewerBranches] = []
    latency_ms: dict[int | None, float | None] = {}
    shown, _ = pytorch.golden
    for model in bundle.manifest.fewer_branches:
        count = model.branches
        own = bundle.with_branches(count)
        answered = Answers(pytorch.first[count], pytorch.answers.variety)
        golden = shown, pytorch.golden_first[count][: len(shown)]
        evidence = images.evidence(samples, answered, golden, own.manifest)
        outcome = engine_or_graph.run_checks(own, evidence, options.moved_limits())
        where = f"the model with the first {count} of the branches differs, which {AT_LOAD} asks for"
        verdicts.require_passed(outcome.checks, lambda where=where: where)  # type: ignore[misc]
        models.append(dataclasses.replace(model, checks=outcome.checks))
        latency_ms[count] = outcome.latency_ms
    return Checked(tuple(models), latency_ms)


def completed(
    report: BranchReport | None,
    manifest: Manifest,
    folder: Path,
    latency_ms: Mapping[int | None, float | None],
    costs: CostReport,
) -> BranchReport | None:
    """Add to the report what only the finished build knows: costs, errors of the precision, sizes and latencies.

    Args:
        latency_ms: by number of branches; None stands for the whole model.
        costs: those of the traced graph, and of the whole model in the bundle.
    """
    if report is None or manifest.spec is None:
        return None
    from paraexport.graph.cost_report import graph_cost
    from paraexport.graph.onnx_file import load
    from paraexport.graph.shared_weights import model_bytes

    parts = {part.name: part.multiply_adds or 0 for part in costs.traced.parts}
    errors = {} if manifest.lowering is None else {item.part: item.error for item in manifest.lowering.errors}
    sizes = {model.branches: model_bytes(folder / model.file) for model in manifest.fewer_branches}
    whole = manifest.spec.branches
    sizes[whole] = model_bytes(folder / MODEL)
    totals = {
        model.branches: graph_cost(load(folder / model.file).graph).total.multiply_adds
        for model in manifest.fewer_branches
    }
    totals[whole] = costs.final.total.multiply_adds

    def with_measurements(first: FirstBranches) -> FirstBranches:
        count = first.branches
        own = latency_ms.get(None if count == whole else count)
        return dataclasses.replace(first, latency_ms=own, model_bytes=sizes.get(count), multiply_adds=totals.get(count))

    return dataclasses.replace(
        report,
        branches=tuple(
            dataclasses.replace(
                branch, multiply_adds=parts.pop(f"branch {number}", 0), precision_error=errors.get(branch.name)
            )
            for number, branch in enumerate(report.branches)
        ),
        first=tuple(map(with_measurements, report.first)),
        shared_multiply_adds=sum(parts.values()),  # of what is left: stem, sum and head
    )
