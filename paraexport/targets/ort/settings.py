"""Names the settings of an ONNX Runtime session that a `runtime` block may hold, and applies them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from paraexport.errors import BundleError

if TYPE_CHECKING:
    import onnxruntime

OPTIMIZATION = "graph_optimization_level"
"""No entry of the session's configuration, but a property of `SessionOptions`."""
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL")
NO_FALLBACK = "session.disable_cpu_ep_fallback"
X64_PRECISION = "session.x64quantprecision"
"""1 turns int8 weights into uint8, which is exact. It is half as fast as the int8 kernels of a CPU with VNNI."""
SETTINGS = (OPTIMIZATION, NO_FALLBACK, X64_PRECISION)


def apply_settings(options: onnxruntime.SessionOptions, settings: Mapping[str, str], where: object) -> None:
    """Set what a `runtime` block says.

    Raises:
        BundleError: an optimization level that is not known.
    """
    import onnxruntime

    for name, value in settings.items():
        if name != OPTIMIZATION:
            options.add_session_config_entry(name, value)
        elif value in LEVELS:
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, value)
        else:
            expected = f"one of {', '.join(LEVELS)}"
            raise BundleError(f"unknown {OPTIMIZATION}", where=where, expected=expected, got=value)
