"""The way from a checkpoint file to a Checkpoint."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paraexport.checkpoint.blocks import find_blocks
from paraexport.checkpoint.build import build, keep_branches
from paraexport.checkpoint.canonical import canonicalise
from paraexport.checkpoint.config import parse_config
from paraexport.checkpoint.config_files import configs_beside
from paraexport.checkpoint.conventions.convention import Convention
from paraexport.checkpoint.custom import call_function, module_function
from paraexport.checkpoint.files import Kind, file_kind, located, read_file
from paraexport.checkpoint.given import Given, Guesses
from paraexport.checkpoint.infer import check_agreement, first_branches, infer_spec
from paraexport.checkpoint.leftovers import is_counter, without_leftovers
from paraexport.checkpoint.names import strip_common_prefix, without_wrappers
from paraexport.checkpoint.native import Recorded, recorded
from paraexport.checkpoint.overrides import parse_overrides
from paraexport.checkpoint.patch_order import in_our_order
from paraexport.checkpoint.preparation import name_classes, prepare
from paraexport.checkpoint.recognise import Known, Opaque, recognise
from paraexport.checkpoint.shards import checkpoint_file
from paraexport.checkpoint.weights import as_float32
from paraexport.checkpoint.wrappers import Weights, unwrap
from paraexport.errors import CheckpointError, InputError, SpecError
from paraexport.findings.assumptions import Assumption
from paraexport.findings.words import option_text
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Classifier, Preprocessing, ScoreWord, Spec

NO_LABELS = "nothing names the classes; give a file with one name a line"


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode, float32 on the CPU, and everything that is known of it."""

    module: nn.Module
    """A ParaFormer where the checkpoint was recognised as one."""
    original: nn.Module
    """What it is compared with: the user's own module where there is one, else `module`."""
    classifier: Classifier
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    convention: str
    """Whose names the weights carry; `module` for a module that is traced as it is."""
    assumptions: tuple[Assumption, ...]
    scores: ScoreWord | None = None
    """What an option or a config says of the outputs; None where neither does."""
    negative: str = ""
    """Of a model with one output: the label for "no"."""

    @property
    def spec(self) -> Spec | None:
        return self.classifier if isinstance(self.classifier, Spec) else None

    def without_modules(self) -> Checkpoint:
        """All that is known of it, and none of its weights, which may be most of the memory of a build.

        They go even where torch still holds the tensors, as it holds those of its last export. So nobody else may have
        the modules.
        """
        modules = (self.module, self.original)
        for tensor in itertools.chain(*(itertools.chain(one.parameters(), one.buffers()) for one in modules)):
            tensor.data = tensor.new_empty(0)
        return dataclasses.replace(self, module=nn.Module(), original=nn.Module())


def load_checkpoint(
    path: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    module: str | None = None,
    branches: int | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """Read the checkpoint at `path` without running code from it.

    Args:
        overrides: fields that the checkpoint leaves open, as text: `{"heads": "3", "image_size": "32x48"}`.
        module: `FILE.py:FUNCTION`, which returns the module; this code is run. It is called with `path` if it has
            a parameter without a default; if not, the weights at `path` are loaded into what it returns.
        branches: keep the first so many branches only.
        weights: which copy to take, where the file holds several: `ema`, `state_dict.teacher`.

    Raises:
        CheckpointError: the file is no checkpoint, would run code, or its tensors are not those of one model.
        SpecError: a field that nothing settles, or options that are unknown, impossible or contradict the file.
    """
    option = parse_overrides(overrides or {})
    guesses = Guesses()
    path = checkpoint_file(path)
    with located(path):
        if module is not None:
            model, words = module_from_function(path, module, weights, guesses)
            found = from_module(Opaque(model), {**configs_beside(path), **words}, option, guesses)
        elif file_kind(path) is Kind.PROGRAM:
            refuse_choice(weights, "a program holds the weights of one model")
            from paraexport.checkpoint.pt2 import read_program  # half of the time of importing torch

            program = read_program(path)
            opaque = Opaque(program.module, program.tensors, program.image_shape, program.batch)
            found = from_module(opaque, configs_beside(path), option, guesses)
        else:
            content = read_file(path)
            found = from_weights(unwrap(content.value, guesses, weights), content.config, option, guesses)
        return found if branches is None else cut(found, branches)


def from_weights(weights: Weights, beside: Mapping[str, Any], option: Given, guesses: Guesses) -> Checkpoint:
    record = recorded(weights.config)
    if record is not None:
        return from_record(record, weights, beside, option, guesses)
    config = parse_config({**beside, **weights.config}, already=option, guesses=guesses)
    said = option.over(config.given)
    tensors = without_leftovers(weights.tensors, guesses)
    blocks = find_blocks(tensors, said, guesses)
    canonical = canonicalise(as_float32(tensors, guesses), blocks)
    spec = infer_spec(canonical, said, guesses)
    check_agreement(spec, option, settled_by="the weights")
    config.compare(spec, guesses)
    assume_join(spec, blocks.convention, said, guesses)
    model = build(in_our_order(canonical, spec, said.patch_order), spec)
    known = Known(model, spec, blocks.convention.name, blocks.convention.mean_std)
    return finish(known, said, guesses)


def assume_join(spec: Spec, convention: Convention, said: Given, guesses: Guesses) -> None:
    """Names of ordinary Transformers say nothing of how several branches join."""
    if spec.branches > 1 and said.join is None and not convention.branched:
        guesses.assume(
            "join",
            "sum",
            "the file does not say how branches join; a mean, or a skip from their input to their sum, gives other "
            "answers: for such a model use --module",
        )


def from_record(
    record: Recorded, weights: Weights, beside: Mapping[str, Any], option: Given, guesses: Guesses
) -> Checkpoint:
    """A checkpoint of our own, whose record says everything; configs beside it count where it is silent on images."""
    said = option.over(record.given())
    if beside and record.preprocessing is None:
        words = parse_config(beside, already=said, guesses=guesses, module=True).given
        said = said.over(Given(resize=words.resize, interpolation=words.interpolation, mean=words.mean, std=words.std))
    elif beside:
        guesses.assume("config", "not read", f"the checkpoint has a record of its own, beside {', '.join(beside)}")
    tensors = without_leftovers(weights.tensors, guesses)
    blocks = find_blocks(tensors, option, guesses)
    canonical = canonicalise(as_float32(tensors, guesses), blocks)
    check_agreement(record.spec, option, settled_by="the checkpoint")
    record.check_size(blocks.branches * blocks.depth)
    if option.patch_order == "channel_first":
        raise SpecError("patch_order is channel_last in the checkpoint", remedy="leave this option out")
    known = Known(build(canonical, record.spec), record.spec, blocks.convention.name, blocks.convention.mean_std)
    return finish(known, said, guesses)


def from_module(opaque: Opaque, config: Mapping[str, Any], option: Given, guesses: Guesses) -> Checkpoint:
    if option.patch_order is not None:
        raise SpecError("patch_order is for weights without their module", remedy="leave this option out")
    words = parse_config(config, already=option, guesses=guesses, module=True)
    said = option.over(words.given)
    if (record := recorded(config)) is not None:
        images = Given(image_size=record.spec.image_size, channels=record.spec.channels)
        said = said.over(record.given()).over(images)
    known = recognise(opaque, said)
    if isinstance(known, Known):
        check_agreement(known.classifier, option, settled_by="the module")
        words.compare(known.classifier, guesses)
        return finish(known, said, guesses)
    classifier = run_once(opaque, said)
    check_agreement(classifier, option, settled_by="the module")
    refuse_unused(option, known.reason)
    guesses.assume("module", "traced as it is", f"it is not recognised as a Para-Former: {known.reason}")
    return finish(Known(opaque.module, classifier, "module", None), said, guesses)


def refuse_unused(option: Given, reason: str) -> None:
    """Refuse options about the inside of a module that is traced as it is; `reason` says why it is."""
    own = {field.name for field in dataclasses.fields(Spec)} - {field.name for field in dataclasses.fields(Classifier)}
    if unused := [field for field in option.settled() if field in own]:
        raise SpecError(
            f"--spec {', '.join(unused)} has no effect: {reason}, so the module is traced as it is",
            remedy="leave these options out",
        )


def run_once(opaque: Opaque, said: Given) -> Classifier:
    """What a module that is no known Para-Former maps to what, found by running it."""
    shape = opaque.image_shape
    channels = said.channels or (shape[0] if shape else None)
    image_size = said.image_size or (shape[1:] if shape else None)
    if channels is None or image_size is None:
        raise SpecError(
            "nothing says which images the module takes",
            expected="image_size and channels",
            remedy="give --spec image_size=HEIGHTxWIDTH --spec channels=3",
        )
    if opaque.batch is not None:
        raise CheckpointError(
            f"the program takes {opaque.batch} images at a time, no more and no fewer",
            expected="a number of images that is not fixed",
            remedy="export it with torch.export.Dim for the batch",
        )
    try:
        with torch.no_grad():
            logits = opaque.module(torch.zeros(2, channels, *image_size))
    except Exception as error:
        raise SpecError(
            f"the module does not run on images {option_text(image_size)} with {channels} channels",
            got=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
            remedy="give --spec image_size=HEIGHTxWIDTH --spec channels=N as it was trained",
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


def refuse_choice(weights: str | None, why: str) -> None:
    if weights is not None:
        raise InputError(f"there is nothing to choose: {why}", where=f"--weights {weights}", remedy="leave it out")


def module_from_function(
    path: Path, function: str, wanted: str | None, guesses: Guesses
) -> tuple[nn.Module, dict[str, Any]]:
    """The module that `FILE.py:FUNCTION` makes of the checkpoint, and the words that came with its weights."""
    make, takes_path = module_function(function)
    if takes_path:
        refuse_choice(wanted, "the function of --module reads the file itself")
        model, config = call_function(make, function, path), {}
    else:
        weights = unwrap(read_file(path).value, guesses, wanted, twins=False)
        model, config = call_function(make, function), weights.config
        load_strictly(model, weights.tensors)
    model = model.eval().to("cpu").requires_grad_(requires_grad=False)
    as_float32({name: value for name, value in model.state_dict().items() if value.is_floating_point()}, guesses)
    return model.float(), config


def load_strictly(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    expected = model.state_dict()
    # `tensors` are without the words before every name, and all of the module's names may begin with such
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
            remedy="load them in the function, which is called with the checkpoint's path if it takes an argument",
        )
    model.load_state_dict(dict(tensors))


def finish(known: Known, said: Given, guesses: Guesses) -> Checkpoint:
    labels, negative = name_classes(known.classifier, said.labels)
    if said.labels is None and said.scores != "regression":
        guesses.assume("labels", ", ".join(labels[:3]) + (", …" if len(labels) > 3 else ""), NO_LABELS)
    return Checkpoint(
        module=known.model,
        original=known.original or known.model,
        classifier=known.classifier,
        preprocessing=prepare(known.classifier, said, guesses, mean_std=known.mean_std),
        labels=labels,
        convention=known.convention,
        assumptions=tuple(guesses.assumptions),
        scores=said.scores,
        negative=negative,
    )


def cut(found: Checkpoint, branches: int) -> Checkpoint:
    if found.spec is None or not isinstance(found.module, ParaFormer):
        raise SpecError("branches cannot be left out of a module that was not recognised as a Para-Former")
    spec = first_branches(found.spec, branches)
    first = keep_branches(found.module, branches)
    return dataclasses.replace(found, module=first, original=first, classifier=spec)
