"""One contestant in a process of its own: opens a model, checks its answer, then times a burst whenever it is asked.

    python -m benchmarks.harness.worker RUNNER FOLDER GRAPH BATCH THREADS

It prints one JSON object a line: first `Opened` or `Failed`, then a `Burst` for each number of calls read on stdin.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import subjects
from paraexport.targets.folder import Folder

Floats = NDArray[np.float32]
Session = Callable[[Floats], Floats]
"""float32 [N, C, H, W] -> float32 [N, classes]."""
Run = Callable[[], Floats]
WARM_UP_CALLS = 5
IDLE_SHARE = 0.05
SETTLE_STEP_S, SETTLE_AT_MOST_S = 0.02, 1.0


class Opened(msgspec.Struct, tag=True, frozen=True):
    """The model answers; errors are max |Δ| / max |logit| against PyTorch eager."""

    open_s: float
    call_ms: float
    """The fastest of the warm-up."""
    error_float32: float
    error_float64: float


class Failed(msgspec.Struct, tag=True, frozen=True):
    reason: str


class Burst(msgspec.Struct, tag=True, frozen=True):
    latencies_ms: tuple[float, ...]


def open_torch(folder: Path, graph: str, threads: int) -> Session:  # noqa: ARG001
    import torch

    torch.set_num_threads(threads)
    model = subjects.seeded_model(subjects.read_spec(folder))

    def run(images: Floats) -> Floats:
        with torch.inference_mode():
            return model(torch.from_numpy(images)).numpy()

    return run


def open_inductor(folder: Path, graph: str, threads: int, *, freezing: bool = False) -> Session:  # noqa: ARG001
    import torch
    from torch._inductor import config

    torch.set_num_threads(threads)
    config.freezing = freezing
    model = subjects.seeded_model(subjects.read_spec(folder))
    compiled = torch.compile(model, dynamic=False, fullgraph=True)

    # Freezing is for no_grad only.
    def run(images: Floats) -> Floats:
        with torch.no_grad():
            return compiled(torch.from_numpy(images)).numpy()

    return run


def open_frozen_inductor(folder: Path, graph: str, threads: int) -> Session:
    return open_inductor(folder, graph, threads, freezing=True)


def open_onnxruntime(folder: Path, graph: str, threads: int) -> Session:
    return open_target("onnxruntime", folder, graph, threads)


def open_openvino(folder: Path, graph: str, threads: int) -> Session:
    return open_target("openvino", folder, graph, threads)


def open_target(name: str, folder: Path, graph: str, threads: int) -> Session:
    from paraexport import targets

    # On a CPU neither of these targets asks how large images are.
    return targets.require(name).open_session(
        Folder(folder / graph), targets.Workload(image=(), max_batch=1, threads=threads)
    )


def open_openvino_ir(folder: Path, graph: str, threads: int) -> Session:
    """OpenVINO's own format, with the settings of our sessions."""
    from paraexport import targets

    targets.require("openvino")
    from paraexport.targets.openvino import OpenVinoSession

    return OpenVinoSession(folder / graph / "model.xml", threads)


OPENERS: dict[str, Callable[[Path, str, int], Session]] = {
    "torch": open_torch,
    "inductor": open_inductor,
    "inductor-frozen": open_frozen_inductor,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "openvino-ir": open_openvino_ir,
}


def open_model(runner: str, folder: Path, graph: str, batch: int, threads: int) -> tuple[Run, Opened]:
    images = np.load(folder / f"inputs-{batch}.npy")
    started = time.perf_counter()
    session = OPENERS[runner](folder, graph, threads)
    logits = session(images)
    open_s = time.perf_counter() - started
    errors = [relative_error(logits, np.load(folder / f"{name}-{batch}.npy")) for name in ("float32", "float64")]

    def run() -> Floats:
        return session(images)

    return run, Opened(open_s, min(timed_burst(run, WARM_UP_CALLS)), *errors)


def relative_error(logits: Floats, expected: NDArray[np.floating]) -> float:
    """max |Δ| / max |expected|.

    Raises:
        ValueError: the shapes differ, or an answer is not finite.
    """
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        raise ValueError(f"answered {logits.shape}, expected finite {expected.shape}")
    return float(np.abs(logits.astype(np.float64) - expected).max() / np.abs(expected).max())


def timed_burst(run: Run, calls: int) -> list[float]:
    """Milliseconds of each of `calls` calls in a row."""
    latencies_ms = []
    for _ in range(calls):
        started = time.perf_counter()
        run()
        latencies_ms.append((time.perf_counter() - started) * 1e3)
    return latencies_ms


def settle() -> None:
    """Return when this process' threads sleep: those of a runtime spin on for a while after its last call."""
    deadline = time.perf_counter() + SETTLE_AT_MOST_S
    while time.perf_counter() < deadline:
        before = time.process_time()
        time.sleep(SETTLE_STEP_S)
        if time.process_time() - before < IDLE_SHARE * SETTLE_STEP_S:
            return


def main(arguments: list[str]) -> None:
    runner, folder, graph, batch, threads = arguments
    # Libraries print on stdout; only the answers may go there.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(message: Opened | Failed | Burst) -> None:
        answers.write(msgspec.json.encode(message) + b"\n")
        answers.flush()

    from paraexport.errors import MissingError

    try:
        run, opened = open_model(runner, Path(folder), graph, int(batch), int(threads))
    except (ImportError, MissingError) as error:
        answer(Failed(f"not installed: {one_line(error)}"))
        return
    except Exception as error:  # whatever a peer raises is its result
        answer(Failed(f"{type(error).__name__}: {one_line(error)}"))
        return
    settle()
    answer(opened)
    for line in sys.stdin:
        latencies_ms = tuple(timed_burst(run, int(line)))
        settle()
        answer(Burst(latencies_ms))


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


if __name__ == "__main__":
    main(sys.argv[1:])
