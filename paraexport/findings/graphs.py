"""What was done to a graph: rewrites, lower precision, and the candidates that were timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the artefact; a symbolic axis is written by its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Rewrite:
    """What one pass over the graph did."""

    name: str
    times: int
    """How often its identity was applied."""
    refusals: tuple[str, ...]
    """`node: reason`, one line for each place where it nearly applied."""


@dataclass(frozen=True)
class PartError:
    """What lowering one part alone does to the sum over branches, on the calibration images."""

    part: str
    """`branches.3`, or `branches.3/layers.1`."""
    error: float
    """‖Δz‖ / ‖z‖, z being the sum."""
    kept: bool
    """It stays in float32."""


@dataclass(frozen=True)
class Effect:
    """int8 with one more remedy against outliers."""

    remedy: str
    error: float
    """‖Δ logits‖ / ‖logits‖ on the calibration images, with all remedies up to this one."""


@dataclass(frozen=True)
class Lowering:
    """How the precision was lowered, and what that does where."""

    calibration: str
    """The images that scales and ranges were found on."""
    calibrator: str
    """How int8 scales were found; empty where there are none."""
    equalised: bool
    """Value channels were equalised before."""
    kept: tuple[str, ...]
    """Parts that stay in float32, by plan or by hand."""
    reason: str
    """Why these."""
    errors: tuple[PartError, ...]
    """Branch by branch, then layer by layer; empty where no names tell of branches."""
    additivity: float | None
    """‖Δz − Σ Δz_branch‖ / ‖Δz‖, which is rounding."""
    float32: tuple[str, ...]
    """`node: reason`, for each that would not fit the range of half."""
    products: dict[str, int]
    """Multiply-adds of one image, by name, of each product that is lowered."""
    linear_multiply_adds: int
    """Of all products by constants, lowered or not."""
    effects: tuple[Effect, ...] = ()
    """Of int8: what the remedies against outliers are worth."""
    rounding: float | None = None
    """Of half: max |Δ logit| / max |logit| with every rounding carried out, which CPU runtimes leave out."""
    constant: tuple[str, ...] = ()
    """Of int8: values that never varied on the calibration images, so that their scales are guesses."""


@dataclass(frozen=True)
class CandidateTimes:
    """A target with a layout that `auto` tried on the machine of the build."""

    target: str
    layout: str
    latency_ms: dict[str, float]
    """Of one call, by batch size: the median over bursts in turn with the other candidates'."""
    chosen: bool
    failure: str = ""
    """Why it cannot be compiled or run, or in int8 is less accurate than others; then it has no latency."""
