"""Lists the tolerance of every check in each precision, with its reason. No tolerance is defined elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The largest value with which a check passes, its unit, and the reason for it."""

    value: float
    unit: str
    reason: str


RELATIVE, COSINE = "max |Δ logit| / max |logit|", "1 - cosine similarity of all logits"
DISAGREEMENT, POINTS = "% of images with another top-1", "percentage points of top-1"
OTHER_SIDE = "% of yes-or-no answers that differ"
"""The unit of `disagreement` if each class has its own probability: from 0.5 on, the answer is yes."""
PARITY_REASON = "float32 sums in another order differ by about 1e-6 of the largest logit; ten times more is a fault"
LIMITS: dict[str, dict[str, Limit]] = {
    "fp32": {
        "parity": Limit(1e-5, RELATIVE, PARITY_REASON),
        "batches": Limit(1e-5, RELATIVE, f"the same for every batch size: {PARITY_REASON}"),
        "disagreement": Limit(0.0, DISAGREEMENT, "in float32 every image must get the same answer; ties do not count"),
        "accuracy_drop": Limit(0.0, POINTS, "equal answers give equal accuracy"),
    },
    "fp16": {
        "parity": Limit(5e-3, RELATIVE, "fp16 keeps 11 bits: one rounding is up to 5e-4, ten in a row are 5e-3"),
        "batches": Limit(5e-3, RELATIVE, "the same for every batch size"),
        "rounding": Limit(5e-3, RELATIVE, "the graph with every rounding carried out; runtimes on a CPU skip them"),
        "cosine": Limit(1e-5, COSINE, "the square of the error in parity"),
        "disagreement": Limit(0.1, DISAGREEMENT, "one image in a thousand that was close to a tie"),
        "accuracy_drop": Limit(0.1, POINTS, "the same share as for disagreement"),
    },
    "bf16": {
        "parity": Limit(4e-2, RELATIVE, "bf16 keeps 8 bits: one rounding is up to 4e-3, ten in a row are 4e-2"),
        "batches": Limit(4e-2, RELATIVE, "the same for every batch size"),
        "rounding": Limit(4e-2, RELATIVE, "the graph with every rounding carried out; runtimes on a CPU skip them"),
        "cosine": Limit(1e-3, COSINE, "the square of the error in parity"),
        "disagreement": Limit(0.5, DISAGREEMENT, "bf16 is eight times coarser than fp16"),
        "accuracy_drop": Limit(0.5, POINTS, "the same share as for disagreement"),
    },
    "int8": {
        "parity": Limit(0.1, RELATIVE, "trained models have 1e-2 to 7e-2; a wrong calibration range gives 4e-1"),
        "batches": Limit(0.1, RELATIVE, "the same for every batch size"),
        "cosine": Limit(1e-3, COSINE, "models that work have about 1e-4"),
        "disagreement": Limit(0.2, DISAGREEMENT, "two images in a thousand that were close to a tie"),
        "accuracy_drop": Limit(0.2, POINTS, "the same share as for disagreement"),
        "not_int8": Limit(5.0, "% of the multiply-adds meant for int8", "products that run in float32 are no faster"),
    },
}

PREPARATION = Limit(0.0, "levels of 255", "resize, crop and normalisation give the same bits everywhere")
"""For raw golden images, which every check prepares again."""

TIES: dict[str, float] = {"fp32": 1e-5, "fp16": 5e-4, "bf16": 1e-3, "int8": 1e-3}
"""The two best logits are a tie if they differ by less than this, relative to the largest logit.

The format cannot tell such logits apart.
"""
