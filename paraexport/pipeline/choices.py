"""The names that options choose from."""

from __future__ import annotations

from paraexport.bundle.manifest import MOST_BATCH
from paraexport.checks.limits import LIMITS

PRECISIONS = tuple(LIMITS)
FOLDED = "folded"
LAYOUTS = ("branches", FOLDED, "stacked")
CALIBRATORS = ("minmax", "mse", "percentile", "entropy")
AUTO = "auto"
MOST = MOST_BATCH
"""Images in one run, and branches."""
