"""`paraexport predict`: labels for image files, without torch or onnx."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paraexport.cli.failure import problem_of
from paraexport.cli.options import PATH, output_options, threads
from paraexport.cli.output import console, emit_json, line_of, say, warn
from paraexport.errors import DataError, InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from paraexport.engine import Engine
    from paraexport.model.spec import Preprocessing, Scores


@dataclass(frozen=True)
class Candidate:
    label: str
    index: int
    """Of the output; -1 for the label that a model with one output gives below 50 %."""
    score: float
    probability: float | None
    """The score, where that is a probability."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one image; `top` holds it again, and those after it."""

    image: str
    label: str
    index: int
    score: float
    probability: float | None
    top: tuple[Candidate, ...]


@dataclass(frozen=True)
class Unread:
    """An image that has no prediction, and why."""

    image: str
    error: DataError


@click.command("predict")
@click.argument("bundle", type=PATH)
@click.argument("images", metavar="IMAGE|FOLDER...", nargs=-1, required=True, type=PATH)
@click.option("--top", default=1, show_default=True, metavar="K", type=click.IntRange(min=1), help="Labels an image.")
@click.option("--threads", metavar="N", callback=threads, help="Threads of the runtime. [default: its own]")
@output_options
def command(
    *, bundle: Path, images: tuple[Path, ...], top: int, threads: int | None, as_json: bool, quiet: bool
) -> None:
    """Print the labels that a bundle gives to images.

    Each comes with its probability, or with the number that the model gives it. A folder stands for all images below
    it. Images are prepared as the bundle says.
    An image that cannot be read is named on stderr; the others are still predicted, and the exit code is then 2.

    \b
    Examples:
      paraexport predict model.bundle cat.jpg
      paraexport predict model.bundle photos/ --top 3
      paraexport predict model.bundle photos/ --json > labels.json
    """
    from paraexport.engine import load
    from paraexport.model.scores import recorded

    engine = load(bundle, threads=threads)
    channels = engine.manifest.preprocessing.channels
    if channels not in (1, 3):
        raise InputError(
            "the model in it takes no image files",
            where=bundle,
            expected="1 or 3 channels",
            got=channels,
            remedy="call paraexport.load(bundle) from Python with arrays",
        )
    scores = recorded(engine.manifest.scores, len(engine.manifest.labels))
    if scores != engine.manifest.scores:
        warn("the bundle does not say what its only output is, so sigmoid is assumed; build it again to settle that")
    files, unread = find(images)
    total, predictions = len(files) + len(unread), []
    for answer in shown(predict(engine, files, top), len(files), quiet=quiet):
        if isinstance(answer, Unread):
            if list(images) == files[:1]:
                raise answer.error
            unread.append(answer)
            say(f"error: {line_of(answer.error)}")
        elif as_json:
            predictions.append(answer)
        else:
            print(line(answer, scores))
    if as_json:
        errors = [{"image": one.image, "error": problem_of(one.error)} for one in unread]
        emit_json({"predictions": predictions, "errors": errors, "scores": scores})
    if unread:
        say(f"error: {len(unread)} of {total} could not be predicted")
        raise click.exceptions.Exit(2)


def find(images: Sequence[Path]) -> tuple[list[Path], list[Unread]]:
    """Every image file meant by `images`, in their order, and what is not there."""
    from paraexport.images.files import image_files

    files: list[Path] = []
    unread: list[Unread] = []
    for path in images:
        try:
            files += image_files(path)
        except DataError as error:
            if len(images) == 1:
                raise
            unread.append(Unread(str(path), error))
            say(f"error: {line_of(error)}")
    return files, unread


def predict(engine: Engine, files: Sequence[Path], top: int) -> Iterator[Prediction | Unread]:
    """One answer for each file, in order; no more than a batch of images is in memory."""
    import numpy as np

    size = engine.manifest.max_batch
    with ThreadPoolExecutor(min(8, cpu_count() or 1)) as pool:
        for start in range(0, len(files), size):
            batch = files[start : start + size]
            preprocessing = [engine.manifest.preprocessing] * len(batch)
            read = list(pool.map(prepared, batch, preprocessing))
            usable = [image for image in read if not isinstance(image, Unread)]
            logits = iter(engine(np.stack(usable)) if usable else ())
            for file, image in zip(batch, read, strict=True):
                yield image if isinstance(image, Unread) else answer_of(engine, file, next(logits), top)


def prepared(file: Path, preprocessing: Preprocessing) -> NDArray[np.float32] | Unread:
    from paraexport.images.preprocess import prepare_file

    try:
        return prepare_file(file, preprocessing)
    except DataError as error:
        return Unread(str(file), error)


def answer_of(engine: Engine, file: Path, outputs: NDArray[np.float32], top: int) -> Prediction | Unread:
    """What the outputs of the model for one image say, as scores in float64."""
    from paraexport.model.scores import ranked, recorded, usable

    labels = engine.manifest.labels
    scores = recorded(engine.manifest.scores, len(labels))
    if not usable(outputs, scores):
        error = DataError(
            "the model's answer is not finite", where=file, remedy="run `paraexport validate` on the bundle"
        )
        return Unread(str(file), error)
    best = tuple(
        Candidate(scored.label, scored.index, scored.score, scored.score if scores.probabilities else None)
        for scored in ranked(outputs, labels, scores)
    )
    first = best[0]
    # Values are of several things, of which none is the first choice.
    shown = best if scores.kind == "values" else best[:top]
    return Prediction(str(file), first.label, first.index, first.score, first.probability, shown)


def line(answer: Prediction, scores: Scores) -> str:
    from paraexport.model.scores import text_of

    candidates = ", ".join(f"{line_of(one.label)} {text_of(one.score, scores)}" for one in answer.top)
    return f"{line_of(answer.image)}: {candidates}"


def shown(answers: Iterator[Prediction | Unread], total: int, *, quiet: bool) -> Iterator[Prediction | Unread]:
    """`answers`, counted on stderr where that is a terminal and stdout is not."""
    if quiet or not sys.stderr.isatty() or sys.stdout.isatty():
        yield from answers
        return
    from rich.progress import Progress

    with Progress(console=console(sys.stderr), transient=True, redirect_stdout=False) as progress:
        yield from progress.track(answers, total=total, description="images")
