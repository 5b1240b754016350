"""Builds the C++ library once for all tests, and skips them by name where something is missing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "cpp"
BUILD = SOURCE / "build" / "tests"
HEADERS = SOURCE / "headers"
JOBS = "2"
OPTIONS = ("-DPARAEXPORT_WERROR=ON", f"-DPython3_EXECUTABLE={sys.executable}", "-DCMAKE_BUILD_TYPE=Release")
INSTALL = {"cmake": "cmake", "a C++ compiler": "g++", "a build tool": "ninja-build"}


def missing_tools() -> list[str]:
    tools = {"cmake": ("cmake",), "a C++ compiler": ("c++", "g++", "clang++"), "a build tool": ("ninja", "make")}
    return [name for name, programs in tools.items() if not any(map(shutil.which, programs))]


def require_tools() -> None:
    """Skip the test that asks, and say what to install."""
    if missing := missing_tools():
        packages = " ".join(INSTALL[name] for name in missing)
        pytest.skip(f"the C++ library needs {', '.join(missing)}: apt install {packages}")
    if not (HEADERS / "complete").is_file():
        done = run("sh", SOURCE / "cmake" / "fetch_headers.sh", HEADERS)
        if done.returncode and not system_headers():
            pytest.skip(f"the C++ library needs headers: make cpp ({done.stderr.strip().splitlines()[-1:]})")


def system_headers() -> bool:
    return all(Path("/usr/include", name).exists() for name in ("nlohmann/json.hpp", "onnxruntime"))


def run(
    *command: object, cwd: Path | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **(env or {})}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def must(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{done.args}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def generator() -> tuple[str, ...]:
    return ("-G", "Ninja") if shutil.which("ninja") else ()


def build(folder: Path, *options: str, source: Path = SOURCE, target: str = "all") -> Path:
    """Configure and build. What is up to date is not built again."""
    must(run("cmake", "-S", source, "-B", folder, *generator(), *OPTIONS, *options))
    must(run("cmake", "--build", folder, "-j", JOBS, "--target", target))
    return folder


@contextlib.contextmanager
def alone(file: Path) -> Iterator[None]:
    """Keep other workers of pytest out while one builds."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
