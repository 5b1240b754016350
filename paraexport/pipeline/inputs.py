"""What checks start from: the checkpoint, the images, and PyTorch's answers to them."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paraexport import targets
from paraexport.bundle import MODEL
from paraexport.bundle.records import Manifest
from paraexport.checks.limits import LIMITS
from paraexport.checks.validate import Logits, Lowered, Pair
from paraexport.errors import InputError, MissingError
from paraexport.findings.graphs import Lowering
from paraexport.images.dataset import Samples, made_up_samples, open_samples
from paraexport.images.variety import Watch
from paraexport.model.scores import class_names
from paraexport.model.spec import Assumption, Preprocessing, Scores
from paraexport.pipeline.options import Options
from paraexport.pipeline.settle_scores import FIELD, OPTION, settle
from paraexport.system.memory import give_back
from paraexport.system.plain_paths import readable
from paraexport.targets.folder import Folder

LIBRARIES = ("torch", "onnx", "onnx_ir", "onnxscript")
FEW, ENOUGH = 16, 64
"""Fewer different calibration images than the first are reported; the second is enough."""
HELD_OUT, ENOUGH_TO_HOLD_OUT = 4, 32
"""Every so many-th image does not calibrate, if there are at least so many."""

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint
    from paraexport.trace.endings import Ending
    from paraexport.trace.trace import Graph


def require_libraries() -> None:
    """Raise a `MissingError` that names every library which a build needs and which is not installed."""
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise MissingError(
            f"a build needs {', '.join(missing)}, not installed here", remedy="pip install 'paraexport[build]'"
        )


def load(source: Path, options: Options) -> Checkpoint:
    """The checkpoint at `source`, read as the options say."""
    from paraexport.checkpoint.load import load_checkpoint

    give_back(source.stat().st_size)
    return load_checkpoint(
        source,
        overrides=options.spec,
        module=options.module,
        branches=options.branches,
        weights=options.weights,
    )


def traced(loaded: Checkpoint, folder: Path) -> Graph:
    """The module as ONNX, in the new `folder`, its weights in a file of their own, which is mapped."""
    from paraexport.trace.trace import trace

    folder.mkdir()
    return trace(loaded.module, loaded.classifier, folder / MODEL, apart=True)


def let_go(loaded: Checkpoint, options: Options) -> Checkpoint:
    """Without its modules, once PyTorch has answered; a module of `--module` stays, since others may have it too."""
    return loaded if options.module is not None else loaded.without_modules()


def load_again(loaded: Checkpoint, source: Path, options: Options) -> Checkpoint:
    """The checkpoint with its modules, which `let_go` may have taken."""
    return loaded if options.module is not None else load(source, options)


def open_all(options: Options, loaded: Checkpoint) -> tuple[Samples, Samples]:
    """The images of the checks, and those that calibrate."""
    samples = open_images(options, loaded.preprocessing, class_names_of(loaded, options))
    return samples, open_calibration(options, loaded.preprocessing, samples)


def open_images(options: Options, preprocessing: Preprocessing, names: Sequence[str]) -> Samples:
    """The images of `data`, else those of `calib`, else made-up ones; `names` are those of all classes."""
    path = options.data or options.calib
    if path is None:
        return made_up_samples(preprocessing)
    return open_readable(path, preprocessing, names, need_labels=options.data is not None)


def open_readable(path: Path, preprocessing: Preprocessing, labels: Sequence[str], *, need_labels: bool) -> Samples:
    """The images at `path`; what reports say of them is UTF-8, even where their names are not."""
    samples = open_samples(path, preprocessing, labels, need_labels=need_labels)
    unreadable = tuple(map(readable, samples.unreadable))
    return dataclasses.replace(samples, origin=readable(samples.origin), unreadable=unreadable)


def open_calibration(options: Options, preprocessing: Preprocessing, samples: Samples) -> Samples:
    """The images of `calib`, else most of those that the checks run on, so that int8 is checked on others as well."""
    if options.calib is not None and options.data is not None:
        return open_readable(options.calib, preprocessing, (), need_labels=False)
    hold_out = options.precision == "int8" and len(samples) >= ENOUGH_TO_HOLD_OUT
    return samples.without_each(HELD_OUT) if hold_out else samples


def class_names_of(loaded: Checkpoint, options: Options) -> tuple[str, ...]:
    """The names of the classes that labelled images have.

    Raises:
        InputError: there are labelled images for a model without classes.
    """
    if loaded.scores == "regression":
        if options.data is not None:
            raise InputError(
                "the outputs of the model are values, not classes: labels of images say nothing about them",
                where=f"--data {options.data}",
                remedy="give the images as --calib",
            )
        return loaded.labels
    return class_names(loaded.labels, Scores(negative=loaded.negative))


def scores_of(
    loaded: Checkpoint, options: Options, ending: Ending, outputs: NDArray[np.float32]
) -> tuple[Scores, tuple[Assumption, ...]]:
    """What the outputs of the model are, and what had to be assumed for that; `outputs` are PyTorch's answers."""
    said_by = OPTION if FIELD in options.spec else "the config of the checkpoint"
    scores, assumed = settle(loaded.scores, said_by, ending, outputs)
    return dataclasses.replace(scores, negative=loaded.negative if scores.probabilities else ""), assumed


def said_aloud(options: Options, calibration: Samples, distinct: int, target: str) -> tuple[Assumption, ...]:
    """What the user should know of a layout that nothing was timed for, and of how the precision was lowered.

    `distinct` is the number of different calibration images.
    """
    return (*of_layout(options), *of_precision(options, calibration, distinct, target))


def of_layout(options: Options) -> tuple[Assumption, ...]:
    if (layout := options.untimed_layout) is None:
        return ()
    idle = targets.get(options.target).availability().idle
    return (Assumption("layout", layout, f"nothing can be timed here: {idle}; auto takes what the target likes best"),)


def of_precision(options: Options, calibration: Samples, distinct: int, target: str) -> tuple[Assumption, ...]:
    """What the user should know of the images that calibrated, or did not, and of what half precision gains here."""
    if options.precision == "fp32":
        if options.calib is None or options.data is None:
            return ()
        return (Assumption("calib", "unused", "fp32 needs no calibration, and the checks run on the images of --data"),)
    if options.precision != "int8":
        runs_in = targets.get(target).dialect.half_runs_in
        return (Assumption("precision", options.precision, f"{target} computes it in {runs_in}"),) if runs_in else ()
    assumed = []
    if options.calib is None and options.data is not None:
        reason = "no --calib, so that scales were found on images that accuracy is measured on"
        assumed.append(Assumption("calib", "the images of --data", reason))
    if distinct < FEW:
        different = f"{distinct} different of {len(calibration)}"
        images = counted(distinct) if distinct == len(calibration) else different
        reason = f"so few may miss what the model will see; {ENOUGH} are enough"
        assumed.append(Assumption("calib", images, reason))
    return tuple(assumed)


def counted(images: int) -> str:
    return f"{images} image{'' if images == 1 else 's'}"


def answers_to(samples: Samples, pytorch: Logits, size: int, watch: Watch | None = None) -> NDArray[np.float32]:
    """PyTorch's logits for every image, [N, classes]; `watch` sees the images too."""
    batches = samples.batches(size)
    return np.concatenate([pytorch(images) for images in (watch.watch(batches) if watch else batches)])


def with_logits(samples: Samples, logits: NDArray[np.float32], size: int) -> Iterator[Pair]:
    """Every image of `samples`, `size` at a time, with PyTorch's answers."""
    for number, images in enumerate(samples.batches(size)):
        yield images, logits[number * size :][: len(images)]


def worst_parts(lowering: Lowering) -> str:
    """Where precision is lost, and what to do about it."""
    layers = [one for one in lowering.errors if not one.kept]
    deepest = [one for one in layers if "/" in one.part] or layers
    worst = sorted(deepest, key=lambda one: -one.error)[:3]
    if not lowering.calibrator:
        return "take a higher --precision"
    if not worst:
        return "try more or other --calib images, or a higher --precision"
    remedy = f"try --keep {worst[0].part}, --max-drop PP, more or other --calib images, or a higher --precision"
    told = ", ".join(f"{one.part} ({one.error:.2g})" for one in worst)
    return f"the most error at the sum over branches comes from {told}; {remedy}"


def read_back(folder: Folder, manifest: Manifest) -> Lowered | None:
    """What the target makes of the products that are to run in int8; None in other precisions."""
    lowering = manifest.lowering
    if manifest.precision != "int8" or lowering is None or not lowering.products:
        return None
    low = targets.get(manifest.target).low_products(folder)
    return Lowered(
        len(lowering.products),
        sum(lowering.products.values()),
        low if isinstance(low, str) else sum(count for name, count in lowering.products.items() if name in low),
    )


def blame(
    loaded: Checkpoint,
    model: Path,
    images: NDArray[np.float32],
    traced: Path | None = None,
    lowering: Lowering | None = None,
) -> str:
    """One clause on where the graph at `model` first differs from PyTorch; `traced` is what it was rewritten from.

    In lower precision every value differs a little: there it is the parts that do the most to the sum over branches.
    """
    from paraexport.checks.golden import answers
    from paraexport.checks.locate import first_difference, relative_difference

    limit = LIMITS["fp32"]["parity"].value
    original = answers(loaded.original)
    logits = original(images)
    if not relative_difference(logits, original(images)) <= limit:
        return "PyTorch itself does not answer the same twice: is there randomness in the module?"
    if not relative_difference(logits, answers(loaded.module)(images)) <= limit:
        return "the module answers otherwise than the Para-Former of its weights: it decides on values, or clips them"
    if lowering is not None:
        return worst_parts(lowering)
    if traced and (found := first_difference(loaded.module, traced, images, limit)):
        return str(found)
    if found := first_difference(loaded.module, model, images, limit):
        rewriting = "; the traced graph agrees, so the rewriting is at fault: build with --layout branches"
        return f"{found}{rewriting if traced else ''}"
    return "no named value differs on the golden images: the fault is at the output, in the layout, or in the runtime"
