"""Holds the fields of a model that come from options or configs, not from its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypeVar, get_args

from paraexport.errors import OpenField, SpecError, shortlist
from paraexport.findings.assumptions import Assumption
from paraexport.findings.words import option_text
from paraexport.model.spec import (
    Activation,
    Interpolation,
    NormPlace,
    PatchProjection,
    Pool,
    Residual,
    ScoreWord,
)

Value = TypeVar("Value")

PatchOrder = Literal["channel_last", "channel_first"]
"""How a Linear reads the pixels of a patch: (row, column, channel), or (channel, row, column) as `nn.Unfold` gives."""
Join = Literal["sum"]
"""How the branches join. No other way is supported."""
CHOICES: Mapping[str, tuple[str, ...]] = {
    "residual": get_args(Residual),
    "activation": get_args(Activation),
    "pool": get_args(Pool),
    "norm": get_args(NormPlace),
    "patch_projection": get_args(PatchProjection),
    "interpolation": get_args(Interpolation),
    "patch_order": get_args(PatchOrder),
    "scores": get_args(ScoreWord),
    "join": get_args(Join),
}
Size: TypeAlias = tuple[int, int]
NO_OPTION: Mapping[str, object] = {"option": False}
"""Marks fields that only come from configs."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """Every field that an option or a config can settle, named as in `Spec` and `Preprocessing`. None: not given."""

    image_size: Size | None = None
    channels: int | None = None
    classes: int | None = None
    patch_size: Size | None = None
    dim: int | None = None
    branches: int | None = None
    depth: int | None = None
    heads: int | None = None
    head_dim: int | None = None
    mlp_dim: int | None = None
    residual: Residual | None = None
    activation: Activation | None = None
    pool: Pool | None = None
    norm: NormPlace | None = None
    eps: float | None = None
    patch_projection: PatchProjection | None = None
    patch_order: PatchOrder | None = None
    patch_norms: bool | None = None
    class_token: bool | None = None
    qkv_bias: bool | None = None
    layer_scale: bool | None = None
    resize: Size | int | None = None
    interpolation: Interpolation | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    scores: ScoreWord | None = None
    join: Join | None = None
    crop_pct: float | None = field(default=None, metadata=NO_OPTION)
    """As in timm: every side is resized to ⌊side / crop_pct⌋ before the centre is cropped."""
    squash: bool | None = field(default=None, metadata=NO_OPTION)
    """With `crop_pct`: whether the aspect ratio changes."""
    uncropped: Size | int | None = field(default=None, metadata=NO_OPTION)
    """The size, as in `resize`, to which a config resizes images without a crop after it."""

    def settled(self) -> dict[str, object]:
        """The fields that are given, by name."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def over(self, fallback: Given) -> Given:
        """These fields, with those of `fallback` where none is given here."""
        return dataclasses.replace(fallback, **self.settled())  # type: ignore[arg-type]


FIELDS = tuple(field.name for field in dataclasses.fields(Given) if "option" not in field.metadata)
"""The fields that `--spec` sets."""


MOST_VALUES = 12
"""Values of a field in a message."""


class Guesses:
    """Collects assumptions, and the fields that are still open."""

    def __init__(self) -> None:
        self.assumptions: list[Assumption] = []
        self.open: list[OpenField] = []

    def assume(self, field: str, value: Value, reason: str) -> Value:
        self.assumptions.append(Assumption(field, option_text(value), reason))
        return value

    def settle(self, field: str, known: Value | None, otherwise: Value, reason: str) -> Value:
        """`known`, or `otherwise` if it is None. The latter is reported as an assumption."""
        return self.assume(field, otherwise, reason) if known is None else known

    def ask(self, field: str, why: str, example: object, dependents: tuple[str, ...] = ()) -> None:
        """Ask for a size that may have many values. `example` is one that fits the weights."""
        self.open.append(OpenField(field, why, (), option_text(example), dependents))

    def choose(self, field: str, why: str, values: Sequence[object], dependents: tuple[str, ...] = ()) -> None:
        """Ask for a field that has one of these values, the likeliest first; none of them is suggested."""
        texts = tuple(map(option_text, values))
        self.open.append(OpenField(field, why, texts, texts[0], dependents))

    def raise_open(self) -> None:
        """Raise a `SpecError` that names every field that is still open."""
        if self.open:
            error = SpecError("the checkpoint does not contain " + "; ".join(map(request, self.open)))
            error.open = tuple(self.open)
            raise error


def request(field: OpenField) -> str:
    """Ask for a field in one clause."""
    if not field.values:
        return f"{field.name}: {field.reason} (give it as --spec {field.name}=HEIGHTxWIDTH)"
    return f"{field.name}: {field.reason}, so it is {possible(field)} (give --spec {field.name}=N as in training)"


def possible(field: OpenField) -> str:
    """List the values of a field that has few."""
    return f"one of {shortlist(sorted(field.values, key=lambda text: (len(text), text)), MOST_VALUES)}"


ANOTHER = (
    "check --spec; if only names differ, give --rename OLD=NEW; for another architecture, give a function that builds "
    "the model: --module FILE.py:FUNCTION"
)
"""The remedy for tensors that are not those of a Para-Former."""
