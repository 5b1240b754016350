"""Writes and compiles the candidates of a build: every layout, in the form that each target prefers."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport import targets
from paraexport.errors import EngineError, MissingError
from paraexport.findings.graphs import Lowering, Rewrite
from paraexport.images.dataset import Samples
from paraexport.model.spec import LOGITS, Scores
from paraexport.pipeline.choices import AUTO
from paraexport.pipeline.options import Options
from paraexport.system.memory import give_back
from paraexport.targets.compilation import EngineInfo
from paraexport.timing.clock import Clock, Progress, silent

if TYPE_CHECKING:
    from paraexport.precision.calibration.calibration import Calibration
    from paraexport.precision.half.formats import HalfType
    from paraexport.precision.judge import JudgedImages

History = tuple[tuple[Rewrite, ...], Lowering | None]
"""The rewrites of a graph, and how its precision was lowered, if it was."""
Write = Callable[[str, targets.Dialect, Path], History]
"""Writes a graph: (layout, dialect, new folder) -> its history."""
BATCH = 8
MOST_OF_FAILURE = 300
"""Longer messages are cut to this many characters."""
MOST_FOR_CALIBRATION = 512
"""Calibration uses at most this many images, evenly spaced; a tenth of them is enough."""
MOST_FOR_PLAN, MOST_FOR_PLAN_BYTES = 2000, 2**28
"""Choices of parts are tried on at most this many images. The build then checks the final choice on all images."""


@dataclass(frozen=True)
class Candidate:
    """A graph for a target."""

    target: str
    layout: str
    folder: Path
    rewrites: tuple[Rewrite, ...]
    lowering: Lowering | None = None
    engine: EngineInfo | None = None
    """For targets that compile an engine."""
    failure: str = ""
    """Why it could not be compiled or is not accurate enough, if there are other candidates."""


@dataclass(frozen=True, eq=False)
class Images:
    """The images for a lower precision: some to calibrate on, and some with PyTorch's logits to measure errors."""

    calibration: Samples
    checked: Samples
    logits: NDArray[np.float32]
    scores: Scores = LOGITS
    """The meaning of the logits."""


def write(
    traced: Path, options: Options, possible: Sequence[str], work: Path, images: Images, *, progress: Progress = silent
) -> list[Candidate]:
    """Write each graph once, in a new folder inside `work`. Return all candidates; without timing the first is used."""
    if options.precision == "fp32":
        candidates = float32(traced, options, possible, work)
    elif options.precision == "int8":
        candidates = int8(traced, options, possible, work, images, progress=progress)
    else:
        candidates = half(traced, options, possible, work, images)
    give_back(sum(file.stat().st_size for file in traced.parent.iterdir()))
    return candidates


def float32(traced: Path, options: Options, possible: Sequence[str], work: Path) -> list[Candidate]:
    """Write every layout for every target in float32."""
    from paraexport.rewrite import rewrite

    def write(layout: str, dialect: targets.Dialect, folder: Path) -> History:
        return rewrite(traced, layout, folder, dialect.opset), None

    return write_each(options, possible, work, write, lambda dialect: dialect.opset)


def int8(
    traced: Path, options: Options, possible: Sequence[str], work: Path, images: Images, *, progress: Progress
) -> list[Candidate]:
    """Write every layout for every target in int8.

    Raises:
        InputError: a part in `--keep` does not exist.
        CheckFailed: no choice of parts stays within `--max-drop`.
    """
    from paraexport.precision.int8 import lowering

    settings = lowering.Int8Settings(keep=options.keep, max_drop=options.max_drop, equalised=options.equalise)
    data = None if options.max_drop is None else judged_images(images)
    decision = lowering.decide(traced, calibrations(options, images.calibration), data, settings, progress)

    def write(layout: str, dialect: targets.Dialect, folder: Path) -> History:
        progress(f"int8: layout {layout}")
        return lowering.write(traced, layout, dialect, folder, decision)

    return write_each(
        options, possible, work, write, lambda dialect: (dialect.signed, dialect.own_operators, dialect.bias_rows)
    )


def half(traced: Path, options: Options, possible: Sequence[str], work: Path, images: Images) -> list[Candidate]:
    """Write every layout for every target in fp16 or bf16."""
    from paraexport.precision.half import lowering
    from paraexport.precision.half.branch_errors import branch_errors

    calibration, origin, data = in_batches(images.calibration), images.calibration.origin, judged_images(images)
    kind: HalfType = "fp16" if options.precision == "fp16" else "bf16"
    errors, rest = branch_errors(traced, kind, calibration)

    def write(layout: str, dialect: targets.Dialect, folder: Path) -> History:
        return lowering.write(
            traced, layout, kind, dialect, folder,
            images=calibration, origin=origin, data=data, errors=errors, additivity=rest,
        )  # fmt: skip

    return write_each(options, possible, work, write, lambda dialect: kind in dialect.weights_only)


def write_each(
    options: Options, possible: Sequence[str], work: Path, write: Write, shaped_by: Callable[[targets.Dialect], object]
) -> list[Candidate]:
    """Write a candidate for every target and layout.

    Targets with the same value of `shaped_by` share one graph.
    """
    written: dict[tuple[str, object], tuple[Path, History]] = {}
    candidates = []
    for target, layout in itertools.product(possible, options.layouts):
        dialect = targets.get(target).dialect
        graph = layout, shaped_by(dialect)
        if graph not in written:
            folder = work / f"{target}-{layout}"
            written[graph] = folder, write(layout, dialect, folder)
        folder, history = written[graph]
        candidates.append(Candidate(target, layout, folder, *history))
    return candidates


def judged_images(images: Images) -> JudgedImages:
    """Return images of the checks with PyTorch's logits, as many as fit into memory."""
    from paraexport.precision.judge import Judge, JudgedImages

    most = max(1, min(MOST_FOR_PLAN, MOST_FOR_PLAN_BYTES // images.checked.pick(1).nbytes))
    places, labels = images.checked.spread(most), images.checked.labels
    judge = Judge(images.logits[places], None if labels is None else labels[places], images.scores)
    return JudgedImages([*images.checked.batches(BATCH, most)], judge)


def compile_engines(candidates: Sequence[Candidate], options: Options, clock: Clock) -> list[Candidate]:
    """Compile the engines of candidates whose target needs one.

    Raises:
        EngineError: the only candidate cannot be compiled, or none can.
    """
    if not any(targets.compiler(candidate.target) for candidate in candidates):
        return [*candidates]
    with clock.stage("engine"):
        if len(candidates) == 1:
            return [compiled(candidates[0], options, clock.progress)]
        results = [compiled_or_failed(candidate, options, clock.progress) for candidate in candidates]
    if all(result.failure for result in results):
        reasons = "; ".join(f"{result.target}, {result.layout}: {result.failure}" for result in results)
        raise EngineError(f"no candidate can be compiled: {reasons}", where="auto", remedy="paraexport doctor")
    return results


def compiled_or_failed(candidate: Candidate, options: Options, progress: Progress) -> Candidate:
    try:
        return compiled(candidate, options, progress)
    except (EngineError, MissingError) as error:
        return dataclasses.replace(candidate, failure=str(error)[:MOST_OF_FAILURE])


def compiled(candidate: Candidate, options: Options, progress: Progress) -> Candidate:
    compiler = targets.compiler(candidate.target)
    if compiler is None:
        return candidate
    folder = candidate.folder.with_name(f"{candidate.folder.name}-{candidate.target}")
    shutil.copytree(candidate.folder, folder, dirs_exist_ok=True)
    engine = compiler.compile_model(folder, options.max_batch, options.engine, progress)
    return dataclasses.replace(candidate, folder=folder, engine=engine)


def calibrations(options: Options, samples: Samples) -> list[Calibration]:
    from paraexport.precision.calibration.calibration import Calibration, default_folder
    from paraexport.precision.calibration.calibrators import BEST

    names = BEST if options.calibrator == AUTO else (options.calibrator,)
    digest = samples.digest()
    return [Calibration(in_batches(samples), digest, name, default_folder(), samples.origin) for name in names]


def in_batches(samples: Samples) -> Callable[[], Iterator[NDArray[np.float32]]]:
    return lambda: samples.batches(BATCH, MOST_FOR_CALIBRATION)
