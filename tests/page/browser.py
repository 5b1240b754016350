"""Opens pages in a real headless Chromium, and skips the tests by name where something is missing."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "tests/browser"
NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class View:
    """A page as a person meets it, in one colour scheme and width."""

    file: str
    scheme: str
    width: int
    problems: list[str]
    """Messages of the console, errors and dialogs."""
    overflow: int
    """Pixels that the page is wider than the window."""
    broken: int
    """Images that cannot be decoded."""
    images: int
    charts: int
    scripts: int
    headings: list[str]
    text: str
    requests: list[str]
    """Addresses that the page asked for, besides itself."""
    violations: list[dict[str, object]]
    """Findings of axe-core."""


def chromium() -> str:
    """The path of the browser; skips the test if something is missing."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None or shutil.which("node") is None:
        pytest.skip("the pages need a browser: apt install chromium nodejs npm")
    if not (FOLDER / "node_modules/axe-core").is_dir():
        pytest.skip("the pages need playwright-core and axe-core: make browser")
    return found


def views(files: list[Path], folder: Path) -> list[View]:
    """Open every page in light and dark, and narrow. Screenshots go to `folder`."""
    command = ["node", FOLDER / "inspect_pages.mjs", chromium(), folder, *files]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [View(**view) for view in json.loads(done.stdout)["views"]]
