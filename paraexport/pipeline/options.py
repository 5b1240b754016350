"""Defines the options of a build, and checks them before any work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from paraexport import targets
from paraexport.checks.verdicts import EVERYTHING
from paraexport.errors import InputError
from paraexport.findings.words import option_text
from paraexport.model.branch_choice import BranchChoice, BranchCounts, checked_choice, checked_counts
from paraexport.pipeline import candidate_times, option_checks
from paraexport.pipeline.choices import AUTO, CALIBRATORS, FOLDED, LAYOUTS, MOST, PRECISIONS
from paraexport.pipeline.declaration import declared_options, documented, option
from paraexport.targets.compilation import EngineOptions

SIZES = frozenset({"image_size", "patch_size", "resize"})
"""The fields of `spec` that are a height and a width."""


@dataclass(frozen=True)
class Reading:
    """The options for reading a checkpoint."""

    spec: Mapping[str, str]
    module: str | None
    weights: str | None
    rename: Mapping[str, str]
    branches: BranchChoice | None


@dataclass(frozen=True)
class ImagePaths:
    """The options for the images of a build."""

    calib: Path | None
    data: Path | None
    precision: str

    @property
    def separate(self) -> bool:
        """Whether calibration and checks have separate images."""
        return self.calib is not None and self.data is not None


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of `paraexport.build`; creating one checks it. Paths may be given as text.

    Raises:
        InputError: an option has an invalid value, or options contradict each other.
    """

    target: str = option(
        targets.DEFAULT,
        "Where the model will run. auto times every target that is installed here and uses the fastest.",
        choices=(*targets.TARGETS, AUTO),
    )
    precision: str = option("fp32", "Precision of the products inside the branches.", choices=PRECISIONS)
    layout: str | None = option(
        None,
        "How the graph is arranged; the results are the same. branches: as in PyTorch. folded: exact rewrites that "
        "compute less. stacked: also runs all branches as one, which suits runtimes that prefer few large operators. "
        "auto times all three on the target and uses the fastest. [default: folded; auto with --target auto]",
        choices=(*LAYOUTS, AUTO),
    )
    branches: BranchChoice | None = option(
        None,
        "Keep only the first K branches, or those with these numbers, counted from 0: 0,2,5. A comma at the end keeps "
        "one branch alone: 5,",
        metavar="K|N,N,...",
    )
    branches_at_load: BranchCounts | None = option(
        None,
        "Put models with fewer branches into the same bundle: all, or how many, such as 1,2,4. They share the weights. "
        "load(path, branches=2) then runs the first 2.",
        metavar="all|K,K,...",
    )
    spec: Mapping[str, str] = option(
        dict,
        "Set a field that the checkpoint does not settle, such as heads=4, residual=input, activation=gelu, pool=mean, "
        "image_size=32, eps=1e-6, mean=0.5, std=0.2 or labels=FILE. The field scores sets how outputs become scores: "
        "softmax, sigmoid, exp, none or regression.",
        metavar="FIELD=VALUE",
    )
    module: str | None = option(
        None,
        "Get the model from this function, which returns a torch.nn.Module. If it has a parameter without a default, "
        "it is called with the path of the checkpoint. This runs the code in FILE.py.",
        metavar="FILE.py:FUNCTION",
    )
    weights: str | None = option(
        None,
        "Which copy of the weights to use, if the checkpoint holds several: its key, such as ema or teacher.",
        metavar="NAME",
    )
    rename: Mapping[str, str] = option(
        dict,
        "Replace words in the names of weights: towers=branches renames towers.0.attn.qkv to branches.0.attn.qkv. * "
        "stands for a part of a word: tower*=branches.*",
        metavar="OLD=NEW",
    )
    max_batch: int = option(
        64,
        "Largest number of images in one run of the model. Larger inputs are split.",
        metavar="N",
        least=1,
        most=MOST,
    )
    calib: Path | None = option(
        None,
        "Images without labels: a folder, .npy or .npz. int8 finds its scales on them; 64 are enough. Without --data, "
        "the checks run on them too.",
        metavar="PATH",
    )
    data: Path | None = option(
        None,
        "Images with labels, for checks and accuracy: a folder with one subfolder for each class, or .npz with images "
        "and labels.",
        metavar="PATH",
    )
    max_drop: float | None = option(
        None,
        "Limit the loss of top-1 accuracy, in percentage points. int8 then keeps branches or layers in float32 if "
        "needed, as few as possible. Without labels, limit the share of images with a different answer, in %.",
        metavar="PP",
        least=0,
        most=100,
    )
    limits: Mapping[str, float] = option(
        dict,
        "Change the limit of a check, such as parity=1e-4. A build notes this in the bundle.",
        metavar="CHECK=VALUE",
        flag="--limit",
    )
    calibrator: str = option(
        AUTO, "How int8 finds its scales. auto uses the better of minmax and mse.", choices=(*CALIBRATORS, AUTO)
    )
    keep: tuple[str, ...] = option(
        (), "Keep this part in float32 in an int8 build: branches.3, or branches.3/layers.1.", metavar="PART"
    )
    equalise: bool = option(
        True, "Do not rescale value channels before int8. This rescaling is exact and makes int8 more accurate."
    )
    engine: EngineOptions = option(EngineOptions, "How the TensorRT targets compile an engine.")

    def __post_init__(self) -> None:
        for name in ("calib", "data"):
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, Path(path))
        object.__setattr__(self, "keep", tuple(self.keep))
        if self.branches is not None:
            object.__setattr__(self, "branches", checked_choice(self.branches))
        if self.branches_at_load is not None:
            object.__setattr__(self, "branches_at_load", checked_counts(self.branches_at_load))
        object.__setattr__(self, "spec", {name: spec_text(name, value) for name, value in self.spec.items()})
        if self.layout is None:
            object.__setattr__(self, "layout", AUTO if self.target == AUTO else FOLDED)
        for declared in declared_options(Options):
            declared.check(getattr(self, declared.name))
        given = [declared for declared in declared_options(Options) if getattr(self, declared.name) != declared.default]
        option_checks.check_limits(self.precision, self.moved_limits())
        is_measured = self.data is not None or self.precision == "int8"
        option_checks.check_drop(self.max_drop, self.limits, is_measured=is_measured)
        option_checks.check_precision(self.precision, self.target, given)
        if self.branches_at_load is not None:
            option_checks.check_branches_at_load(self.target)
        option_checks.check_engine(self.engine, self.target, self.max_batch)

    @property
    def reading(self) -> Reading:
        return Reading(self.spec, self.module, self.weights, self.rename, self.branches)

    @property
    def images(self) -> ImagePaths:
        return ImagePaths(self.calib, self.data, self.precision)

    def require_calibration(self) -> None:
        """Raise an `InputError` if int8 has no images to find its scales on."""
        if self.precision == "int8" and self.calib is None and self.data is None:
            raise InputError(
                "int8 needs images to calibrate on",
                where="--precision int8",
                remedy="give --calib: a folder, .npy or .npz with 64 images like those in use; they need no labels",
            )

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets to choose from.

        Raises:
            MissingError: the target, or with `auto` every target, is not installed here.
            EngineError: the installed version of the target cannot compile such an engine.
        """
        if self.target == AUTO:
            here = candidate_times.installed_targets(self.precision)
            return tuple(name for name in here if self.branches_at_load is None or not targets.compiler(name))
        targets.require(self.target)
        if (compiler := targets.compiler(self.target)) is not None:
            compiler.check(self.engine)
        return (self.target,)

    @property
    def layouts(self) -> tuple[str, ...]:
        """The layouts to choose from."""
        assert self.layout is not None
        if self.layout != AUTO:
            return (self.layout,)
        return LAYOUTS if self.untimed_layout is None else (self.untimed_layout,)

    @property
    def untimed_layout(self) -> str | None:
        """The layout that `auto` uses for a target that can compile but not run here; None in all other cases."""
        if self.layout != AUTO or self.target == AUTO or (compiler := targets.compiler(self.target)) is None:
            return None
        return compiler.layout if compiler.availability().idle else None

    def moved_limits(self) -> dict[str, float]:
        """The limits that the user changed, by the name of the check.

        With labels, `max_drop` limits the loss of accuracy. In int8 without labels, it limits the share of images with
        a different answer.
        """
        if self.max_drop is None:
            return {**self.limits}
        if self.precision == "fp32":
            return {**self.limits, "accuracy_drop": self.max_drop}
        by_drop = {"disagreement": self.max_drop} if self.data is None else {"disagreement": EVERYTHING}
        return {**by_drop, **self.limits, "accuracy_drop": self.max_drop}

    def paths(self) -> dict[str, Path]:
        """The paths of the images that were given, by option."""
        return {name: path for name in ("calib", "data") if (path := getattr(self, name)) is not None}

    def files(self) -> dict[str, Path]:
        """All files and folders whose content affects the bundle, except the checkpoint."""
        labels = self.spec.get("labels")
        return {**self.paths(), **({"labels": Path(labels)} if labels and Path(labels).is_file() else {})}

    def settings(self) -> dict[str, object]:
        """All options that affect the bundle, except paths of images."""
        values = {entry.name: getattr(self, entry.name) for entry in dataclasses.fields(self)}
        values["rename"] = [*self.rename.items()]  # their order matters
        values["engine"] = dataclasses.asdict(self.engine)
        values["device"] = targets.devices() if self.target == AUTO else targets.devices(self.target)
        return {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in values.items()
            if name not in ("calib", "data")
        }


def spec_text(field: str, value: object) -> str:
    """Write a value as on the command line: 4 -> `4`, (32, 48) -> `32x48` for sizes, (0.5, 0.4) -> `0.5,0.4`."""
    if isinstance(value, tuple | list) and field not in SIZES:
        return ",".join(map(str, value))
    return option_text(value)


Options.__doc__ = f"{Options.__doc__}\n    Fields:\n{documented(Options, ' ' * 8)}\n"
