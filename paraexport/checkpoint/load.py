"""Loads a checkpoint file: weights, an exported program, or the result of `--module`."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from paraexport.checkpoint.blocks import find_blocks
from paraexport.checkpoint.build import build, keep_branches
from paraexport.checkpoint.canonical import canonicalise
from paraexport.checkpoint.config import parse_config
from paraexport.checkpoint.config_files import configs_beside
from paraexport.checkpoint.conventions.convention import Convention
from paraexport.checkpoint.files import CheckpointKind, checkpoint_kind, located, read_file
from paraexport.checkpoint.given import Given, Guesses
from paraexport.checkpoint.infer import check_agreement, infer_spec
from paraexport.checkpoint.leftovers import without_leftovers
from paraexport.checkpoint.module import call_module_function, identify, refuse_choice
from paraexport.checkpoint.native import Recorded, recorded
from paraexport.checkpoint.overrides import parse_overrides
from paraexport.checkpoint.patch_order import to_channel_last
from paraexport.checkpoint.preprocessing import name_classes, settle_preprocessing
from paraexport.checkpoint.recognise import Known, Opaque
from paraexport.checkpoint.recorded_accuracy import RecordedAccuracy, recorded_accuracy
from paraexport.checkpoint.renames import renamed
from paraexport.checkpoint.shards import checkpoint_file
from paraexport.checkpoint.weights import as_float32
from paraexport.checkpoint.wrappers import Weights, unwrap
from paraexport.errors import SpecError, shortlist
from paraexport.findings.assumptions import Assumption
from paraexport.findings.words import first_words
from paraexport.model.branch_choice import BranchChoice, chosen_numbers
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Classifier, Preprocessing, ScoreWord, Spec

NO_LABELS = "nothing names the classes; give a file with one name per line as --spec labels=FILE"


@dataclass(frozen=True)
class Checkpoint:
    """A model in eval mode, in float32 on the CPU, with everything that is known about it."""

    module: nn.Module
    """A ParaFormer, if the checkpoint was recognised as one."""
    original: nn.Module
    """The module to compare with: the user's own module if there is one, else `module`."""
    classifier: Classifier
    preprocessing: Preprocessing
    labels: tuple[str, ...]
    convention: str
    """The naming convention of the weights; `module` for a module that is traced as it is."""
    assumptions: tuple[Assumption, ...]
    scores: ScoreWord | None = None
    """The meaning of the outputs according to an option or a config; None if neither contains it."""
    negative: str = ""
    """For a model with one output: the label for "no"."""
    branches: tuple[int, ...] | None = None
    """The numbers of the branches in the file that were kept; None if all were."""
    accuracy: RecordedAccuracy | None = None
    """The accuracy that the training program has written into the file."""

    @property
    def spec(self) -> Spec | None:
        return self.classifier if isinstance(self.classifier, Spec) else None

    def without_modules(self) -> Checkpoint:
        """The same without the weights, which may take most of the memory of a build.

        The memory is freed even if torch still holds the tensors, as it does after an export. So nobody else may use
        the modules afterwards.
        """
        modules = (self.module, self.original)
        for tensor in itertools.chain(*(itertools.chain(module.parameters(), module.buffers()) for module in modules)):
            tensor.data = tensor.new_empty(0)
        return dataclasses.replace(self, module=nn.Module(), original=nn.Module())


def load_checkpoint(
    path: Path,
    *,
    overrides: Mapping[str, str] | None = None,
    module: str | None = None,
    branches: BranchChoice | None = None,
    weights: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Checkpoint:
    """Read the checkpoint at `path` without running code from it.

    Args:
        overrides: fields that the checkpoint leaves open, as text: `{"heads": "3", "image_size": "32x48"}`.
        module: `FILE.py:FUNCTION`, which returns the module; this code is run. It is called with `path` if it has
            a parameter without a default; if not, the weights at `path` are loaded into the module that it returns.
        branches: keep only the first K branches, or those with these numbers.
        weights: the copy to use if the file holds several: `ema`, `state_dict.teacher`.
        rename: words in names of tensors, and the words that replace them: `{"towers": "branches"}`.

    Raises:
        CheckpointError: the file is no checkpoint, contains code, or its tensors are not those of one model.
        SpecError: a field is still open, or options are unknown, impossible or contradict the file.
    """
    option = parse_overrides(overrides or {})
    guesses, rename = Guesses(), rename or {}
    path = checkpoint_file(path)
    with located(path):
        if module is not None:
            model, words = call_module_function(path, module, guesses, wanted=weights, rename=rename)
            known, given = identify(Opaque(model), {**configs_beside(path), **words}, option, guesses)
            checkpoint = finish(known, given, guesses)
        elif checkpoint_kind(path) is CheckpointKind.PROGRAM:
            refuse_choice(weights, rename, "a program holds the weights of one model, under its own names")
            from paraexport.checkpoint.pt2 import read_program  # takes half of the time of importing torch

            program = read_program(path)
            opaque = Opaque(program.module, program.tensors, program.image_shape, program.batch)
            known, given = identify(opaque, configs_beside(path), option, guesses)
            checkpoint = finish(known, given, guesses)
        else:
            content = read_file(path)
            state = renamed(unwrap(content.value, guesses, weights), rename)
            checkpoint = from_weights(state, content.config, option, guesses)
            if weights is None:
                checkpoint = dataclasses.replace(checkpoint, accuracy=recorded_accuracy(content.value))
        return checkpoint if branches is None else with_branches(checkpoint, branches)


def from_weights(weights: Weights, beside: Mapping[str, Any], option: Given, guesses: Guesses) -> Checkpoint:
    """Build the reference model from a state dict, and the configs inside and beside the file."""
    record = recorded(weights.config)
    if record is not None:
        return from_record(record, weights, beside, option, guesses)
    config = parse_config({**beside, **weights.config}, already=option, guesses=guesses)
    given = option.over(config.given)
    tensors = without_leftovers(weights.tensors, guesses)
    blocks = find_blocks(tensors, given, guesses)
    canonical = canonicalise(as_float32(tensors, guesses), blocks)
    spec = infer_spec(canonical, given, guesses)
    check_agreement(spec, option, settled_by="the weights")
    config.compare(spec, guesses)
    assume_join(spec, blocks.convention, given, guesses)
    model = build(to_channel_last(canonical, spec, given.patch_order), spec)
    known = Known(model, spec, blocks.convention.name, blocks.convention.mean_std)
    return finish(known, given, guesses)


def assume_join(spec: Spec, convention: Convention, given: Given, guesses: Guesses) -> None:
    """Report that the branches are assumed to be summed, if the names are those of a model without branches."""
    if spec.branches > 1 and given.join is None and not convention.branched:
        guesses.assume(
            "join",
            "sum",
            "the file does not show how branches join. If your model takes a mean, or adds their input to the sum, the "
            "answers are wrong: use --module",
        )


def from_record(
    record: Recorded, weights: Weights, beside: Mapping[str, Any], option: Given, guesses: Guesses
) -> Checkpoint:
    """Build the model of a checkpoint of paraexport's own. Configs beside it only count for missing preprocessing."""
    given = option.over(record.given())
    if beside and record.preprocessing is None:
        words = parse_config(beside, already=given, guesses=guesses, module=True).given
        given = given.over(
            Given(resize=words.resize, interpolation=words.interpolation, mean=words.mean, std=words.std)
        )
    elif beside:
        guesses.assume("config", "not read", f"the checkpoint has its own record, so {', '.join(beside)} is not needed")
    tensors = without_leftovers(weights.tensors, guesses)
    blocks = find_blocks(tensors, option, guesses)
    canonical = canonicalise(as_float32(tensors, guesses), blocks)
    check_agreement(record.spec, option, settled_by="the checkpoint")
    record.check_size(blocks.branches * blocks.depth)
    if option.patch_order == "channel_first":
        raise SpecError("patch_order is channel_last in the checkpoint", remedy="leave this option out")
    known = Known(build(canonical, record.spec), record.spec, blocks.convention.name, blocks.convention.mean_std)
    return finish(known, given, guesses)


def finish(known: Known, given: Given, guesses: Guesses) -> Checkpoint:
    """Add labels, preprocessing and the list of assumptions to a model."""
    labels, negative = name_classes(known.classifier, given.labels)
    if given.labels is None and given.scores != "regression":
        guesses.assume("labels", first_words(labels, 3), NO_LABELS)
    elif repeated := [label for label, count in Counter(labels).items() if count > 1]:
        reason = "several classes have the same name; check the file"
        guesses.assume("labels", f"{shortlist(repeated, 4)} twice", reason)
    return Checkpoint(
        module=known.model,
        original=known.original or known.model,
        classifier=known.classifier,
        preprocessing=settle_preprocessing(known.classifier, given, guesses, mean_std=known.mean_std),
        labels=labels,
        convention=known.convention,
        assumptions=tuple(guesses.assumptions),
        scores=given.scores,
        negative=negative,
    )


def with_branches(checkpoint: Checkpoint, choice: BranchChoice) -> Checkpoint:
    """The checkpoint with only the chosen branches. The user's own module has them all, so it is dropped."""
    if checkpoint.spec is None or not isinstance(checkpoint.module, ParaFormer):
        raise SpecError(
            "branches cannot be left out: the module was not recognised as a Para-Former", remedy="leave --branches out"
        )
    numbers = chosen_numbers(choice, checkpoint.spec.branches)
    model = keep_branches(checkpoint.module, numbers)
    return dataclasses.replace(
        checkpoint, module=model, original=model, classifier=model.spec, accuracy=None, branches=numbers
    )
