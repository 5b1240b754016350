"""Exports Para-Former models, checks them against PyTorch, and runs them.

The names below are imported on first use, so importing the package never imports torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paraexport import errors as errors
    from paraexport.bundle.prediction import Prediction as Prediction
    from paraexport.engine import Engine as Engine
    from paraexport.engine import load as load
    from paraexport.model.reference import ParaFormer as ParaFormer
    from paraexport.model.spec import Spec as Spec
    from paraexport.optimizer.optimize import optimize as optimize
    from paraexport.pipeline.build import build as build
    from paraexport.pipeline.options import Options as Options
    from paraexport.pipeline.validate import validate as validate
    from paraexport.targets.compilation import EngineOptions as EngineOptions

__version__ = "0.1.0"

_HOMES = {
    "Engine": "paraexport.engine",
    "EngineOptions": "paraexport.targets.compilation",
    "Options": "paraexport.pipeline.options",
    "ParaFormer": "paraexport.model.reference",
    "Prediction": "paraexport.bundle.prediction",
    "Spec": "paraexport.model.spec",
    "build": "paraexport.pipeline.build",
    "load": "paraexport.engine",
    "optimize": "paraexport.optimizer.optimize",
    "validate": "paraexport.pipeline.validate",
}
__all__ = [
    "Engine",
    "EngineOptions",
    "Options",
    "ParaFormer",
    "Prediction",
    "Spec",
    "build",
    "errors",
    "load",
    "optimize",
    "validate",
]


def __getattr__(name: str) -> object:
    if name == "errors":
        return importlib.import_module("paraexport.errors")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'paraexport' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
