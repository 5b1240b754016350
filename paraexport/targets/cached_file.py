"""Writes a file into a cache, whole or not at all."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path


def write_cached(file: Path, content: bytes) -> None:
    """Write the file beside its place and rename it, so that builds at the same time do no harm.

    If it cannot be written, nothing is cached: the next build does the work again.
    """
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as beside:
            part = Path(beside) / file.name
            part.write_bytes(content)
            part.replace(file)
