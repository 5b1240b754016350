"""The graphs that a build chooses from: every layout, in the precision that was asked for, as each target wants it."""

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
from paraexport.findings.graphs import CandidateTimes, Lowering, Rewrite
from paraexport.images.dataset import Samples
from paraexport.model.scores import as_logits
from paraexport.model.spec import LOGITS, Scores
from paraexport.pipeline import candidate_times
from paraexport.pipeline.choices import AUTO
from paraexport.pipeline.options import Options
from paraexport.system.memory import give_back
from paraexport.targets.compilation import EngineInfo
from paraexport.targets.folder import Folder
from paraexport.timing.clock import Clock, Progress

if TYPE_CHECKING:
    from paraexport.precision.calibration.calibration import Calibration
    from paraexport.precision.half.formats import HalfType
    from paraexport.precision.judge import JudgedImages

Made = tuple[tuple[Rewrite, ...], Lowering | None]
"""What the passes did, and how the precision was lowered where it was."""
Write = Callable[[str, targets.Dialect, Path], Made]
"""(layout, dialect, new folder) -> what was written there."""
BATCH = 8
MOST_OF_FAILURE = 300
"""Characters."""
ALIKE = 2.0
"""CandidateTimess whose error is at most so many times the smallest are as accurate, and time decides among them."""
MOST_TO_COMPARE = 256
"""Images on which candidates are compared."""
MOST_FOR_CALIBRATION = 512
"""Images that are looked at, evenly spaced over those given; a tenth of them is enough."""
MOST_FOR_PLAN, MOST_FOR_PLAN_BYTES = 2000, 2**28
"""Images on which choices of parts are tried; the build checks the one that is taken on all."""


@dataclass(frozen=True)
class Candidate:
    """One graph for one target."""

    target: str
    layout: str
    folder: Path
    rewrites: tuple[Rewrite, ...]
    lowering: Lowering | None = None
    engine: EngineInfo | None = None
    """Of a target that compiles."""
    failure: str = ""
    """Why it could not be compiled or is not accurate enough, where there are others to choose from."""


@dataclass(frozen=True, eq=False)
class Images:
    """What a lower precision is told by: images to calibrate on, and images with PyTorch's logits to judge it on."""

    calibration: Samples
    checked: Samples
    logits: NDArray[np.float32]
    scores: Scores = LOGITS
    """What the logits are."""


def write(traced: Path, options: Options, possible: Sequence[str], work: Path, images: Images) -> list[Candidate]:
    """All of them, each graph once in a new folder inside `work`; the first is taken where nothing is timed."""
    if options.precision == "fp32":
        made = float32(traced, options, possible, work)
    else:
        make_one = int8 if options.precision == "int8" else half
        made = make_one(traced, options, possible, work, images)
    give_back(sum(file.stat().st_size for file in traced.parent.iterdir()))
    return made


def float32(traced: Path, options: Options, possible: Sequence[str], work: Path) -> list[Candidate]:
    """Every layout for every target."""
    from paraexport.rewrite import rewrite

    def write(layout: str, dialect: targets.Dialect, folder: Path) -> Made:
        return rewrite(traced, layout, folder, dialect.opset), None

    return each(options, possible, work, write, lambda dialect: dialect.opset)


def int8(traced: Path, options: Options, possible: Sequence[str], work: Path, images: Images) -> list[Candidate]:
    """Every layout for every target.

    Raises:
        InputError: a part to be kept does not exist.
        CheckFailed: no choice of parts stays within `--max-drop`.
    """
    from paraexport.precision.int8 import lowering

    wanted = lowering.Int8Settings(keep=options.keep, max_drop=options.max_drop, equalised=options.equalise)
    data = None if options.max_drop is None else data_of(images)
    decided = lowering.decide(traced, calibrations(options, images.calibration), data, wanted)

    def write(layout: str, dialect: targets.Dialect, folder: Path) -> Made:
        return lowering.write(traced, layout, dialect, folder, decided)

    return each(
        options, possible, work, write, lambda dialect: (dialect.signed, dialect.own_operators, dialect.bias_rows)
    )


def half(traced: Path, options: Options, possible: Sequence[str], work: Path, images: Images) -> list[Candidate]:
    """Every layout for every target, in fp16 or bf16."""
    from paraexport.precision.half import lowering

    seen, origin, data = in_batches(images.calibration), images.calibration.origin, data_of(images)
    kind: HalfType = "fp16" if options.precision == "fp16" else "bf16"

    def write(layout: str, dialect: targets.Dialect, folder: Path) -> Made:
        return lowering.write(traced, layout, kind, dialect, folder, images=seen, origin=origin, data=data)

    return each(options, possible, work, write, lambda dialect: kind in dialect.weights_only)


def each(
    options: Options, possible: Sequence[str], work: Path, write: Write, shaped_by: Callable[[targets.Dialect], object]
) -> list[Candidate]:
    """A candidate for every target and layout; `shaped_by` tells what of a dialect makes another graph."""
    written: dict[tuple[str, object], tuple[Path, Made]] = {}
    found = []
    for target, layout in itertools.product(possible, options.layouts):
        dialect = targets.get(target).dialect
        graph = layout, shaped_by(dialect)
        if graph not in written:
            folder = work / f"{target}-{layout}"
            written[graph] = folder, write(layout, dialect, folder)
        folder, made = written[graph]
        found.append(Candidate(target, layout, folder, *made))
    return found


def data_of(images: Images) -> JudgedImages:
    """Images that are checked on, as many as fit into memory, with PyTorch's answers."""
    from paraexport.precision.judge import Judge, JudgedImages

    most = max(1, min(MOST_FOR_PLAN, MOST_FOR_PLAN_BYTES // images.checked.pick(1).nbytes))
    chosen, labels = images.checked.spread(most), images.checked.labels
    judge = Judge(images.logits[chosen], None if labels is None else labels[chosen], images.scores)
    return JudgedImages([*images.checked.batches(BATCH, most)], judge)


def compile_engines(made: Sequence[Candidate], options: Options, clock: Clock) -> list[Candidate]:
    """The candidates, each with its engine beside its model where its target runs one.

    Raises:
        EngineError: the only one cannot be compiled, or none can be.
    """
    if not any(targets.compiler(one.target) for one in made):
        return [*made]
    with clock.stage("engine"):
        if len(made) == 1:
            return [compiled_one(made[0], options, clock.progress)]
        done = [attempted(one, options, clock.progress) for one in made]
    if all(one.failure for one in done):
        reasons = "; ".join(f"{one.target}, {one.layout}: {one.failure}" for one in done)
        raise EngineError(f"no candidate can be compiled: {reasons}", where="auto", remedy="paraexport doctor")
    return done


def attempted(draft: Candidate, options: Options, progress: Progress) -> Candidate:
    try:
        return compiled_one(draft, options, progress)
    except (EngineError, MissingError) as error:
        return dataclasses.replace(draft, failure=str(error)[:MOST_OF_FAILURE])


def compiled_one(draft: Candidate, options: Options, progress: Progress) -> Candidate:
    compiler = targets.compiler(draft.target)
    if compiler is None:
        return draft
    alone = draft.folder.with_name(f"{draft.folder.name}-{draft.target}")
    shutil.copytree(draft.folder, alone, dirs_exist_ok=True)
    engine = compiler.compile_model(alone, options.max_batch, options.engine, progress)
    return dataclasses.replace(draft, folder=alone, engine=engine)


def most_accurate(made: Sequence[Candidate], images: Images, workload: targets.Workload) -> list[Candidate]:
    """The candidates; in int8, those far less accurate than the best have that as their failure."""
    if len(made) == 1 or workload.precision != "int8":
        return [*made]
    expected = images.logits[images.checked.spread(MOST_TO_COMPARE)]
    batches = [*images.checked.batches(min(BATCH, workload.max_batch), MOST_TO_COMPARE)]
    errors = [error_of(one, batches, expected, workload, images.scores) for one in made]
    least = min((error for error in errors if error is not None), default=0.0)
    return [
        dataclasses.replace(one, failure=f"less accurate: error {error:.2g} of the logits, best {least:.2g}")
        if error is not None and error > ALIKE * least
        else one
        for one, error in zip(made, errors, strict=True)
    ]


def error_of(
    draft: Candidate,
    batches: Sequence[NDArray[np.float32]],
    expected: NDArray[np.float32],
    workload: targets.Workload,
    scores: Scores,
) -> float | None:
    """‖Δ logits‖ / ‖logits‖ against PyTorch; None where it cannot run, of which timing tells."""
    if draft.failure:
        return None
    try:
        session = targets.get(draft.target).open_session(Folder(draft.folder), workload)
        got = np.concatenate([session(images) for images in batches])
    except Exception:  # each runtime has errors of its own
        return None
    reference = as_logits(expected, scores)
    error = float(np.linalg.norm(as_logits(got, scores) - reference) / (np.linalg.norm(reference) or 1.0))
    return error if np.isfinite(error) else float("inf")


def fastest(made: Sequence[Candidate], workload: targets.Workload) -> tuple[Candidate, tuple[CandidateTimes, ...]]:
    """The only one, or else the fastest on this machine, with all that were tried."""
    if len(made) == 1:
        return made[0], ()
    ready = [one for one in made if not one.failure]
    candidates = [(one.target, one.layout, one.folder) for one in ready]
    timed = candidate_times.time_candidates(candidates, workload)
    failed = [
        CandidateTimes(one.target, one.layout, {}, chosen=False, failure=one.failure) for one in made if one.failure
    ]
    return ready[[one.chosen for one in timed].index(True)], (*timed, *failed)


def calibrations(options: Options, samples: Samples) -> list[Calibration]:
    from paraexport.precision.calibration.calibration import Calibration, default_folder
    from paraexport.precision.calibration.calibrators import BEST

    names = BEST if options.calibrator == AUTO else (options.calibrator,)
    digest = samples.digest()
    return [Calibration(in_batches(samples), digest, name, default_folder(), samples.origin) for name in names]


def in_batches(samples: Samples) -> Callable[[], Iterator[NDArray[np.float32]]]:
    return lambda: samples.batches(BATCH, MOST_FOR_CALIBRATION)
