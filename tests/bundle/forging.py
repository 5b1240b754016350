"""Bundles as somebody could write them who knows the format: every digest fits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], object]


def copied(bundle: Path, target: Path) -> Path:
    target.mkdir()
    for file in bundle.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def forge(bundle: Path, change: Change = lambda raw: None) -> None:
    """Change the manifest, and write its digests anew for the files that it lists."""
    raw = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    for name, entry in raw["files"].items():
        if (bundle / name).is_file():
            content = (bundle / name).read_bytes()
            entry.update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    change(raw)
    write(bundle, json.dumps(raw))


def write(bundle: Path, text: str) -> None:
    """Write a manifest with the digest that fits it."""
    (bundle / "manifest.json").write_bytes(sealed(text.encode("utf-8", "surrogatepass")))


def sealed(content: bytes) -> bytes:
    """The bytes of a manifest with the digest that fits them; as they are where they hold none."""
    if (found := re.search(rb'"digest": "([0-9a-f]{64})"', content)) is None:
        return content
    blank = content[: found.start(1)] + b"0" * 64 + content[found.end(1) :]
    # A reader takes the first place where the digest stands.
    return blank[: found.start(1)] + hashlib.sha256(blank).hexdigest().encode() + blank[found.end(1) :]
