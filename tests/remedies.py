"""The commands that install an extra, as pyproject.toml lists its packages."""

from __future__ import annotations

import tomllib
from pathlib import Path

EXTRAS = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def pip_install(*extras: str) -> str:
    packages = [requirement.partition(";")[0].strip() for extra in extras for requirement in sorted(EXTRAS[extra])]
    return f"pip install {' '.join(map(repr, packages))}"
