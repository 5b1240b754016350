"""Reads the metadata of installed packages: their versions, and the command that installs an extra of paraexport."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterable

EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")


def install(*extras: str) -> str:
    """`pip install 'onnx>=1.19' 'torch>=2.13'`: the packages themselves, because they can be found everywhere.

    Without metadata, as in a copy of the sources, it is the extra in the folder of the sources.
    """
    packages = [requirement for extra in extras for requirement in required_by(extra)]
    if not packages:
        return f"pip install '.[{','.join(extras)}]' in the folder of paraexport's sources"
    return f"pip install {' '.join(repr(package) for package in packages)}"


def required_by(extra: str) -> list[str]:
    """The requirements of one extra, without their markers."""
    try:
        requirements = importlib.metadata.requires("paraexport") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    parts = (requirement.partition(";") for requirement in requirements)
    return sorted(name.strip() for name, _, marker in parts if (found := EXTRA.search(marker)) and found[1] == extra)


def installed_versions(names: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
