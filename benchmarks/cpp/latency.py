"""Compares the C++ library with Python's `Engine` and with a bare C program on ONNX Runtime, in turns in one run.

    make cpp && python -m benchmarks.cpp.latency -o benchmarks/results/

It also measures opening, and the rate of sha256.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnxruntime

import paraexport
from benchmarks.harness import machine
from paraexport.bundle import Bundle
from paraexport.targets.ort.saturation import saturates as onnxruntime_saturates

ROOT = Path(__file__).parents[2]
PREFIX = ROOT / "cpp/build/install"
HEADERS = ROOT / "cpp/headers/include/onnxruntime"
HERE = Path(__file__).parent
THREADS, CALLS, ROUNDS = 1, 100, 41
CASES = [(target, precision, batch) for target in ("onnxruntime", "openvino") for precision in ("fp32", "int8")
         for batch in (1, 8)]  # fmt: skip
HASHED_BYTES = 1 << 28


@dataclass
class Contestant:
    """A process that measures a burst of calls for each line that it gets."""

    name: str
    process: subprocess.Popen[str]
    times_us: list[float] = field(default_factory=list)

    def burst(self) -> float:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


@contextlib.contextmanager
def started(commands: dict[str, Sequence[object]]) -> Iterator[list[Contestant]]:
    contestants = []
    try:
        for name, command in commands.items():
            arguments = [*map(str, command)]
            process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            contestants.append(Contestant(name, process))
        yield contestants
    finally:
        for contestant in contestants:
            contestant.process.communicate()


def compiled(folder: Path) -> tuple[Path, Path]:
    """The programs `burst` and `bare_onnxruntime`."""
    burst, bare = folder / "burst", folder / "bare"
    library = next(PREFIX.rglob("libparaexport.so")).parent
    flags = ["-O2", f"-I{PREFIX}/include", f"-L{library}", f"-Wl,-rpath,{library}"]
    subprocess.run(
        [shutil.which("c++") or "c++", "-std=c++17", HERE / "burst.cpp", "-o", burst, *flags, "-lparaexport"],
        check=True,
    )
    subprocess.run(
        [shutil.which("cc") or "cc", "-O2", f"-I{HEADERS}", HERE / "bare_onnxruntime.c", "-o", bare, "-ldl"], check=True
    )
    return burst, bare


def measure(bundle: Bundle, batch: int, programs: tuple[Path, Path]) -> dict[str, float]:
    """Median µs of one call for each contestant: the median over bursts that they run in turns."""
    burst, bare = programs
    numbers = (THREADS, batch, CALLS)
    commands: dict[str, Sequence[object]] = {
        "python": (sys.executable, "-m", "benchmarks.cpp.python_burst", bundle.path, *numbers),
        "c++": (burst, bundle.path, *numbers),
    }
    if bundle.manifest.target == "onnxruntime":
        (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
        assert bundle.manifest.runtime
        settings = bundle.manifest.runtime.settings_here(onnxruntime_saturates)
        entries = [f"{name}={value}" for name, value in settings.items() if name != "graph_optimization_level"]
        commands["bare"] = (bare, library, bundle.path / "model.onnx", *numbers, *entries)
    with started(commands) as contestants:
        for contestant in contestants:
            contestant.burst()
        for number in range(ROUNDS):
            # Each is first and last equally often.
            for contestant in contestants[number % len(contestants) :] + contestants[: number % len(contestants)]:
                contestant.times_us.append(contestant.burst())
                time.sleep(0.002)
    return {contestant.name: statistics.median(contestant.times_us) for contestant in contestants}


def opening(bundle: Bundle) -> tuple[float, float]:
    """Milliseconds to open the bundle, and to verify it, which is the part that is not the runtime's own; medians."""
    library = ctypes.CDLL(str(next(PREFIX.rglob("libparaexport.so"))))
    times: tuple[list[float], list[float]] = [], []
    path = str(bundle.path).encode()
    for _ in range(21):
        engine = ctypes.c_void_p()
        start = time.perf_counter()
        assert library.paraexport_open(path, None, ctypes.byref(engine)) == 0
        times[0].append(1e3 * (time.perf_counter() - start))
        assert library.paraexport_close(engine) == 0
        start = time.perf_counter()
        assert library.paraexport_verify(path) == 0
        times[1].append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[0]), statistics.median(times[1])


def hash_rate(bundle: Bundle) -> float:
    """GB/s of sha256 in `paraexport_verify`, on a bundle with a large file more."""
    from tests.bundle.forging import copied, forge

    library = ctypes.CDLL(str(next(PREFIX.rglob("libparaexport.so"))))
    with tempfile.TemporaryDirectory() as folder:
        large = copied(bundle.path, Path(folder) / "large.bundle")
        (large / "report.json").write_bytes(bytes(HASHED_BYTES))
        forge(large)
        times = []
        for _ in range(5):
            start = time.perf_counter()
            assert library.paraexport_verify(str(large).encode()) == 0
            times.append(time.perf_counter() - start)
    return HASHED_BYTES / min(times) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True)
    output: Path = parser.parse_args().output
    lines = [
        "# The C++ library beside Python and bare C",
        "",
        "`python -m benchmarks.cpp.latency -o benchmarks/results/`",
        "",
        machine.describe().line(),
        "",
        f"The digits example, {THREADS} thread. Median µs of one call, over {ROUNDS} bursts of {CALLS} calls in turns.",
        "",
        "| target | precision | batch | Python | C++ | bare C | C++ − bare |",
        "|-|-|-|-|-|-|-|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        programs = compiled(Path(folder))
        bundles = {}
        for target, precision, batch in CASES:
            if (target, precision) not in bundles:
                path = Path(folder) / f"{target}-{precision}.bundle"
                calibration = ROOT / "calib/digits/calibration"
                bundles[target, precision] = paraexport.build(
                    ROOT / "models/digits.pt", path, target=target, precision=precision, calib=calibration
                )
            times = measure(bundles[target, precision], batch, programs)
            bare = f"{times['bare']:.1f} | {times['c++'] - times['bare']:+.1f}" if "bare" in times else "- | -"
            lines.append(f"| {target} | {precision} | {batch} | {times['python']:.1f} | {times['c++']:.1f} | {bare} |")
            print(lines[-1], file=sys.stderr)
        lines += ["", "| target | precision | open, ms | verify alone, ms |", "|-|-|-|-|"]
        for (target, precision), bundle in bundles.items():
            open_ms, verify_ms = opening(bundle)
            lines.append(f"| {target} | {precision} | {open_ms:.1f} | {verify_ms:.2f} |")
        rate = hash_rate(bundles["onnxruntime", "fp32"])
        lines += ["", f"sha256 of files: {rate:.2f} GB/s."]
    (output / "cpp.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
