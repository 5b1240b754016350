"""Fills in the manifest of a build with the results of its stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from paraexport import __version__
from paraexport.bundle.manifest import FORMAT, NO_DIGEST
from paraexport.bundle.records import FewerBranches, Manifest, Source
from paraexport.findings.assumptions import Assumption
from paraexport.findings.graphs import CandidateTimes, Lowering, Rewrite
from paraexport.model.spec import Scores
from paraexport.targets.runtime import Runtime

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint
    from paraexport.trace.trace import TracedGraph


class ChosenGraph(Protocol):
    """The graph that the build uses."""

    @property
    def target(self) -> str: ...
    @property
    def layout(self) -> str: ...
    @property
    def rewrites(self) -> tuple[Rewrite, ...]: ...
    @property
    def lowering(self) -> Lowering | None: ...


def assemble(
    *,
    key: str,
    source: Source,
    precision: str,
    max_batch: int,
    runtime: Runtime,
    chosen: ChosenGraph,
    candidates: tuple[CandidateTimes, ...],
    smaller: tuple[FewerBranches, ...],
    graph: TracedGraph,
    checkpoint: Checkpoint,
    scores: Scores,
    assumptions: tuple[Assumption, ...],
    evidence: str,
    versions: dict[str, str],
) -> Manifest:
    """Return the manifest without checks and file hashes, which come later."""
    return Manifest(
        format=FORMAT,
        digest=NO_DIGEST,
        paraexport=__version__,
        key=key,
        source=source,
        target=chosen.target,
        precision=precision,
        layout=chosen.layout,
        rewrites=chosen.rewrites,
        lowering=chosen.lowering,
        candidates=candidates,
        runtime=runtime,
        fewer_branches=smaller,
        max_batch=max_batch,
        inputs=graph.inputs,
        outputs=graph.outputs,
        preprocessing=checkpoint.preprocessing,
        labels=checkpoint.labels,
        scores=scores,
        spec=checkpoint.spec,
        assumptions=assumptions,
        evidence=evidence,
        checks=(),
        versions=versions,
        files={},
    )
