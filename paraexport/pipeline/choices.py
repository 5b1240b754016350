"""Lists the values of options with a fixed set of choices."""

from __future__ import annotations

from paraexport.bundle.manifest import MOST_BATCH
from paraexport.checks.limits import LIMITS

PRECISIONS = tuple(LIMITS)
FOLDED = "folded"
LAYOUTS = ("branches", FOLDED, "stacked")
CALIBRATORS = ("minmax", "mse", "percentile", "entropy")
AUTO = "auto"
MOST = MOST_BATCH
"""The largest number of images in one run, and of branches."""
