"""Defines `paraexport predict`, which prints labels for image files without torch or onnx."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from paraexport.cli.failure import problem_of
from paraexport.cli.options import PATH, output_options, threads
from paraexport.cli.output import emit_json, say, warn
from paraexport.cli.render import console, line_of
from paraexport.errors import DataError

if TYPE_CHECKING:
    from paraexport.bundle.prediction import Failure, Prediction
    from paraexport.model.spec import Scores


@click.command("predict")
@click.argument("bundle", type=PATH)
@click.argument("images", metavar="IMAGE|FOLDER...", nargs=-1, required=True, type=PATH)
@click.option(
    "--top",
    default=1,
    show_default=True,
    metavar="K",
    type=click.IntRange(min=1),
    help="How many labels to print for each image.",
)
@click.option("--threads", metavar="N", callback=threads, help="Threads of the runtime. [default: its own]")
@click.option(
    "--branches", metavar="K", type=int, help="Use only the first K branches. The bundle must hold that model."
)
@output_options
def command(
    *,
    bundle: Path,
    images: tuple[Path, ...],
    top: int,
    threads: int | None,
    branches: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Print the labels that a bundle gives to images.

    Each label has a probability, or a score if the model gives no probabilities. A folder stands for all images in it
    and in its subfolders. An image that cannot be read is reported on stderr. The others are still predicted, and the
    exit code is 2.

    \b
    Examples:
      paraexport predict model.bundle cat.jpg
      paraexport predict model.bundle photos/ --top 3
      paraexport predict model.bundle photos/ --json > labels.json
    """
    from paraexport.bundle.prediction import Failure, predict_each, require_image_files
    from paraexport.engine import load
    from paraexport.model.scores import recorded

    engine = load(bundle, threads=threads, branches=branches)
    require_image_files(engine.manifest)
    scores = recorded(engine.manifest.scores, len(engine.manifest.labels))
    if scores != engine.manifest.scores:
        warn("the bundle does not record the meaning of its only output, so sigmoid is assumed; build it again")
    files, unread = find(images)
    total, predictions = len(files) + len(unread), []
    for answer in shown(predict_each(engine, engine.manifest, files, top), len(files), quiet=quiet):
        if isinstance(answer, Failure):
            if list(images) == files[:1]:
                raise answer.error
            unread.append(answer)
            say(f"error: {line_of(answer.error)}")
        elif as_json:
            predictions.append(answer)
        else:
            print(line(answer, scores))
    if as_json:
        errors = [{"image": failure.image, "error": problem_of(failure.error)} for failure in unread]
        emit_json({"predictions": predictions, "errors": errors, "scores": scores})
    if unread:
        say(f"error: {len(unread)} of {total} could not be predicted")
        raise click.exceptions.Exit(2)


def find(images: Sequence[Path]) -> tuple[list[Path], list[Failure]]:
    """List the image files at `images`, in order, and the paths that cannot be read."""
    from paraexport.bundle.prediction import Failure
    from paraexport.images.files import image_files

    files: list[Path] = []
    unread: list[Failure] = []
    for path in images:
        try:
            files += image_files(path)
        except DataError as error:
            if len(images) == 1:
                raise
            unread.append(Failure(str(path), error))
            say(f"error: {line_of(error)}")
    return files, unread


def line(answer: Prediction, scores: Scores) -> str:
    from paraexport.model.scores import text_of

    labels = ", ".join(f"{line_of(label.label)} {text_of(label.score, scores)}" for label in answer.top)
    return f"{line_of(answer.image)}: {labels}"


def shown(answers: Iterator[Prediction | Failure], total: int, *, quiet: bool) -> Iterator[Prediction | Failure]:
    """Yield the answers, with a progress bar if stderr is a terminal and stdout is not."""
    if quiet or not sys.stderr.isatty() or sys.stdout.isatty():
        yield from answers
        return
    from rich.progress import Progress

    with Progress(console=console(sys.stderr), transient=True, redirect_stdout=False) as progress:
        yield from progress.track(answers, total=total, description="images")
