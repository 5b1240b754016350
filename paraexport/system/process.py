"""The command that runs a statement of this package in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path


def command(statement: str, *arguments: str) -> list[str]:
    """`statement` finds `arguments` in `sys.argv[2:]`; it finds this package, and nothing in the current folder."""
    code = f"import sys; sys.path.append(sys.argv[1]); {statement}"
    return [sys.executable, "-P", "-c", code, str(Path(__file__).parents[2]), *arguments]
