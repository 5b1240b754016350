"""Records the changes to a graph: rewrites, lower precision, and the candidates that were timed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the model. A symbolic axis is given by its name."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Rewrite:
    """The effect of one pass over the graph."""

    name: str
    times: int
    """How often the pass applied its identity."""
    refusals: tuple[str, ...]
    """`node: reason`, one line for each place where the pass nearly applied."""


@dataclass(frozen=True)
class PartError:
    """The error of the sum over branches if only one part is lowered, on the calibration images."""

    part: str
    """`branches.3`, or `branches.3/layers.1`."""
    error: float
    """‖Δz‖ / ‖z‖, where z is the sum."""
    kept: bool
    """Whether the part stays in float32."""


@dataclass(frozen=True)
class Effect:
    """The error of int8 with one more remedy against outliers."""

    remedy: str
    error: float
    """‖Δ logits‖ / ‖logits‖ on the calibration images, with all remedies up to this one."""


@dataclass(frozen=True)
class Lowering:
    """How the precision was lowered, and which errors this causes."""

    calibration: str
    """The images on which scales and ranges were measured."""
    calibrator: str
    """The method for int8 scales; empty if there are none."""
    equalised: bool
    """Whether value channels were equalised before."""
    kept: tuple[str, ...]
    """Parts that stay in float32, chosen by the build or by the user."""
    reason: str
    """Why these parts."""
    errors: tuple[PartError, ...]
    """Branch by branch, then layer by layer; empty if the names of nodes do not show branches."""
    additivity: float | None
    """‖Δz − Σ Δz_branch‖ / ‖Δz‖, which is rounding error."""
    float32: tuple[str, ...]
    """`node: reason`, for each node whose values do not fit the range of half precision."""
    products: dict[str, int]
    """For each lowered product, by name: its multiply-adds for one image."""
    linear_multiply_adds: int
    """The multiply-adds of all products with weights, lowered or not."""
    effects: tuple[Effect, ...] = ()
    """int8 only: the effect of each remedy against outliers."""
    rounding: float | None = None
    """Half precision only: max |Δ logit| / max |logit| with every rounding carried out. CPU runtimes skip some."""
    constant: tuple[str, ...] = ()
    """int8 only: values that never varied on the calibration images, so their scales are guesses."""


@dataclass(frozen=True)
class CandidateTimes:
    """A target and a layout that `auto` timed on the machine of the build."""

    target: str
    layout: str
    latency_ms: dict[str, float]
    """Milliseconds for one call, by batch size: the median over bursts, in turns with the other candidates."""
    chosen: bool
    failure: str = ""
    """Why it cannot be compiled or run, or why int8 is not accurate enough. Then it has no latency."""
