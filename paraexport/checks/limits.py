"""The tolerance of every check, in each precision, with its reason: here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    value: float
    unit: str
    reason: str


RELATIVE, COSINE = "max |Δ logit| / max |logit|", "1 - cosine similarity of all logits"
DISAGREEMENT, POINTS = "% of images with another top-1", "percentage points of top-1"
OTHER_SIDE = "% of yes-or-no answers that differ"
"""The unit of `disagreement` where each class has a probability of its own: it is present from 0.5 on."""
PARITY_REASON = "float32 sums in another order differ by about 1e-6 of the largest logit; ten times that is a fault"
LIMITS: dict[str, dict[str, Limit]] = {
    "fp32": {
        "parity": Limit(1e-5, RELATIVE, PARITY_REASON),
        "batches": Limit(1e-5, RELATIVE, f"the same for every batch size: {PARITY_REASON}"),
        "disagreement": Limit(0.0, DISAGREEMENT, "same numbers, same answers; ties are left out"),
        "accuracy_drop": Limit(0.0, POINTS, "same answers, same accuracy"),
    },
    "fp16": {
        "parity": Limit(5e-3, RELATIVE, "half keeps 11 bits, 5e-4 a rounding; ten in a row are 5e-3"),
        "batches": Limit(5e-3, RELATIVE, "the same for every batch size"),
        "rounding": Limit(5e-3, RELATIVE, "with every rounding carried out, which a CPU runtime leaves out"),
        "cosine": Limit(1e-5, COSINE, "the square of such an error"),
        "disagreement": Limit(0.1, DISAGREEMENT, "one image in a thousand that nearly was another"),
        "accuracy_drop": Limit(0.1, POINTS, "no more than may disagree"),
    },
    "bf16": {
        "parity": Limit(4e-2, RELATIVE, "bfloat16 keeps 8 bits, 4e-3 a rounding; ten in a row are 4e-2"),
        "batches": Limit(4e-2, RELATIVE, "the same for every batch size"),
        "rounding": Limit(4e-2, RELATIVE, "with every rounding carried out, which a CPU runtime leaves out"),
        "cosine": Limit(1e-3, COSINE, "the square of such an error"),
        "disagreement": Limit(0.5, DISAGREEMENT, "eight times as coarse as fp16"),
        "accuracy_drop": Limit(0.5, POINTS, "no more than may disagree"),
    },
    "int8": {
        "parity": Limit(0.1, RELATIVE, "trained models stay at 1e-2 to 7e-2; a range that was missed gives 4e-1"),
        "batches": Limit(0.1, RELATIVE, "the same for every batch size"),
        "cosine": Limit(1e-3, COSINE, "healthy models stay at 1e-4"),
        "disagreement": Limit(0.2, DISAGREEMENT, "two images in a thousand that nearly were another"),
        "accuracy_drop": Limit(0.2, POINTS, "no more than may disagree"),
        "not_int8": Limit(5.0, "% of the multiply-adds meant for int8", "int8 that runs in float32 gains nothing"),
    },
}

TIES: dict[str, float] = {"fp32": 1e-5, "fp16": 5e-4, "bf16": 1e-3, "int8": 1e-3}
"""Two best logits that are closer than this, relative to the largest, are a tie: the format cannot tell them apart."""
