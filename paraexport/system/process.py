"""Makes the command that runs a Python statement of this package in a new process."""

from __future__ import annotations

import sys
from pathlib import Path


def command(statement: str, *arguments: str) -> list[str]:
    """The command line for `statement`, which finds `arguments` in `sys.argv[2:]`.

    The process can import this package, but nothing from the current folder.
    """
    code = f"import sys; sys.path.append(sys.argv[1]); {statement}"
    return [sys.executable, "-P", "-c", code, str(Path(__file__).parents[2]), *arguments]
