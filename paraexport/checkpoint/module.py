"""Reads models that come as a module: from `--module`, or from an exported program."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paraexport.checkpoint.config import parse_config
from paraexport.checkpoint.custom import call_function, module_function
from paraexport.checkpoint.files import read_file
from paraexport.checkpoint.given import Given, Guesses
from paraexport.checkpoint.infer import check_agreement
from paraexport.checkpoint.leftovers import is_counter
from paraexport.checkpoint.names import strip_common_prefix, without_wrappers
from paraexport.checkpoint.native import recorded
from paraexport.checkpoint.recognise import Known, Opaque, recognise
from paraexport.checkpoint.renames import renamed
from paraexport.checkpoint.weights import as_float32
from paraexport.checkpoint.wrappers import unwrap
from paraexport.errors import CheckpointError, InputError, SpecError, first_line
from paraexport.findings.words import option_text
from paraexport.model.spec import Classifier, Spec


def call_module_function(
    path: Path, function: str, guesses: Guesses, *, wanted: str | None, rename: Mapping[str, str]
) -> tuple[nn.Module, dict[str, Any]]:
    """Call `FILE.py:FUNCTION` for the checkpoint at `path`.

    Returns the module in eval mode, in float32 on the CPU, and the configs inside the checkpoint.

    Args:
        wanted: the copy of the weights to load into the module, as `weights` in `load_checkpoint`.
        rename: as in `load_checkpoint`.
    """
    make, takes_path = module_function(function)
    if takes_path:
        refuse_choice(wanted, rename, "the function of --module reads the file itself")
        model, config = call_function(make, function, path), {}
    else:
        weights = renamed(unwrap(read_file(path).value, guesses, wanted, twins=False), rename)
        model, config = call_function(make, function), weights.config
        load_strictly(model, weights.tensors)
    model = model.eval().to("cpu").requires_grad_(requires_grad=False)
    as_float32({name: value for name, value in model.state_dict().items() if value.is_floating_point()}, guesses)
    return model.float(), config


def refuse_choice(weights: str | None, rename: Mapping[str, str], why: str) -> None:
    """Refuse `--weights` and `--rename` if paraexport does not read the weights itself."""
    if weights is not None:
        raise InputError(f"there is nothing to choose: {why}", where=f"--weights {weights}", remedy="leave it out")
    for old, new in rename.items():
        raise InputError(f"there is nothing to rename: {why}", where=f"--rename {old}={new}", remedy="leave it out")


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the tensors into the module. Every name must match; only counters may be left over."""
    expected = model.state_dict()
    # `tensors` lost the words before every name, but the module's own names may all begin with such words.
    own_names = dict(zip(strip_common_prefix(without_wrappers(expected)), expected, strict=True))
    tensors = {own_names.get(name, name): tensor for name, tensor in tensors.items()}
    tensors = {name: tensor for name, tensor in tensors.items() if name in expected or not is_counter(name, tensor)}
    listed = {
        "missing": [name for name in expected if name not in tensors],
        "unexpected": [name for name in tensors if name not in expected],
        "misshaped": [
            f"{name} expected {list(expected[name].shape)}, got {list(tensor.shape)}"
            for name, tensor in tensors.items()
            if name in expected and expected[name].shape != tensor.shape
        ],
    }
    if any(listed.values()):
        raise CheckpointError(
            "the weights do not fit the module: "
            + "; ".join(f"{len(names)} {kind}: {', '.join(names[:20])}" for kind, names in listed.items() if names),
            remedy="load them in the function itself; it gets the path of the checkpoint if it has a parameter",
        )
    model.load_state_dict(dict(tensors))


def identify(opaque: Opaque, config: Mapping[str, Any], option: Given, guesses: Guesses) -> tuple[Known, Given]:
    """Recognise a module as a Para-Former, or run it once to learn its input and output.

    Returns the model, and the fields from options and configs.

    Raises:
        SpecError: an option contradicts the module or has no effect, or the size of its images is not known.
        CheckpointError: the module is no image classifier.
    """
    if option.patch_order is not None:
        raise SpecError("patch_order is for weights without their module", remedy="leave this option out")
    words = parse_config(config, already=option, guesses=guesses, module=True)
    given = option.over(words.given)
    if (record := recorded(config)) is not None:
        images = Given(image_size=record.spec.image_size, channels=record.spec.channels)
        given = given.over(record.given()).over(images)
    known = recognise(opaque, given)
    if isinstance(known, Known):
        check_agreement(known.classifier, option, settled_by="the module")
        words.compare(known.classifier, guesses)
        return known, given
    classifier = run_once(opaque, given)
    check_agreement(classifier, option, settled_by="the module")
    refuse_unused(option, known.reason)
    guesses.assume("module", "traced as it is", f"it is not recognised as a Para-Former: {known.reason}")
    return Known(opaque.module, classifier, "module", None), given


def refuse_unused(option: Given, reason: str) -> None:
    """Refuse options about the inside of a module that is traced as it is. `reason` is why it is traced so."""
    inner = {field.name for field in dataclasses.fields(Spec)} - {
        field.name for field in dataclasses.fields(Classifier)
    }
    if unused := [field for field in option.settled() if field in inner]:
        raise SpecError(
            f"--spec {', '.join(unused)} has no effect: {reason}, so the module is traced as it is",
            remedy="leave these options out",
        )


def run_once(opaque: Opaque, given: Given) -> Classifier:
    """Run a module that is not recognised on two images, to learn its input and output."""
    shape = opaque.image_shape
    channels = given.channels or (shape[0] if shape else None)
    image_size = given.image_size or (shape[1:] if shape else None)
    if channels is None or image_size is None:
        raise SpecError(
            "the size of the module's images is not known",
            expected="image_size and channels",
            remedy="give --spec image_size=HEIGHTxWIDTH --spec channels=3",
        )
    if opaque.batch is not None:
        raise CheckpointError(
            f"the program only takes batches of {opaque.batch} images",
            expected="a free batch size",
            remedy="export it again with torch.export.Dim for the batch",
        )
    try:
        with torch.no_grad():
            logits = opaque.module(torch.zeros(2, channels, *image_size))
    except Exception as error:
        raise SpecError(
            f"the module does not run on images {option_text(image_size)} with {channels} channels",
            got=first_line(error),
            remedy="give --spec image_size=HEIGHTxWIDTH --spec channels=N as in training",
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2 or not logits.is_floating_point():
        got = f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise CheckpointError(
            "the module is no image classifier",
            expected="logits [N, classes] for images [N, C, H, W]",
            got=got,
            remedy="return a module whose forward returns the logits alone",
        )
    return Classifier(image_size=image_size, channels=channels, classes=logits.shape[1])
