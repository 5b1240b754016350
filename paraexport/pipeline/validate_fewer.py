"""Checks the models with fewer branches of a bundle again, for `validate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from paraexport import targets
from paraexport.bundle import Bundle
from paraexport.checks import engine_or_graph, verdicts
from paraexport.checks.golden import Array, Golden
from paraexport.engine import Engine
from paraexport.errors import BundleError
from paraexport.findings.checks import Check
from paraexport.images.dataset import Samples
from paraexport.pipeline import images
from paraexport.pipeline.pytorch_run import first_logits
from paraexport.targets.folder import COPY_AGAIN

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint


def checks(  # noqa: PLR0917
    bundle: Bundle,
    golden: Golden,
    evidence: verdicts.Evidence,
    loaded: Checkpoint | None,
    samples: Samples | None,
    moved: Mapping[str, float],
) -> Iterator[Check]:
    """Run the checks of each smaller model. Their names begin with `first2_` for the first 2 branches.

    Args:
        evidence: that of the whole model.
        loaded: the checkpoint; without it, the stored logits of the golden images are the reference.
        samples: the labelled images to compare on; only with a checkpoint.
        moved: limits that replace those of the build.

    Raises:
        BundleError: the golden file has no logits for a smaller model.
    """
    counts = [model.branches for model in bundle.manifest.fewer_branches]
    if not counts:
        return
    if missing := [count for count in counts if count not in golden.first]:
        what = f"the golden file has no logits for {', '.join(map(str, missing))} branches"
        raise BundleError(what, where=bundle.path, remedy=COPY_AGAIN)
    size = bundle.manifest.max_batch
    logits: Mapping[int, Array] = golden.first
    if loaded is not None:
        logits = first_logits(loaded, [golden.images], counts)
    everything: Mapping[int, Array] = {}
    if loaded is not None and samples is not None:
        everything = first_logits(loaded, samples.batches(size), counts)
    for count in counts:
        own = bundle.with_branches(count)
        pairs = [(golden.images, logits[count])]
        of_count = dataclasses.replace(
            evidence,
            pairs=images.with_logits(samples, everything[count], size) if samples and everything else pairs,
            logits=logits[count],
            int8=engine_or_graph.read_int8_coverage(own.files, own.manifest),
            batches=targets.optima(own.manifest.target, own.files),
        )
        limits = {**verdicts.moved_limits(own.manifest.checks, own.manifest.precision), **moved}
        outcome = verdicts.run_checks(own.manifest.precision, Engine(own), of_count, max_batch=size, moved=limits)
        for check in outcome.checks:
            yield dataclasses.replace(check, name=f"first{count}_{check.name}")
