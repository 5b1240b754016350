"""One contestant in its own process: opens a model, checks its answer, then serves `paraexport.timing.contest`.

python -m benchmarks.harness.worker RUNNER FOLDER GRAPH BATCH THREADS
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import subjects
from paraexport.targets.folder import Folder
from paraexport.timing import contest
from paraexport.timing.calls import time_calls

Floats = NDArray[np.float32]
Session = Callable[[Floats], Floats]
"""float32 [N, C, H, W] -> float32 [N, classes]."""
Run = Callable[[], Floats]
WARM_UP_CALLS = 5


@dataclasses.dataclass(frozen=True)
class Opened:
    """Facts about a model that has answered. Errors are max |Δ logit| / max |logit| against PyTorch eager."""

    open_s: float
    """Seconds to open the model and get the first answer."""
    error_vs_float32: float
    error_vs_float64: float


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

    # Freezing needs no_grad; it does not work in inference_mode.
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

    # On a CPU, neither of these targets uses the size of the images.
    return targets.require(name).open_session(
        Folder(folder / graph), targets.Workload(image=(), max_batch=1, threads=threads)
    )


def open_openvino_ir(folder: Path, graph: str, threads: int) -> Session:
    """A model in OpenVINO's own format, with the settings of our sessions."""
    from paraexport import targets

    target = targets.require("openvino")
    from paraexport.targets.openvino import OpenVinoSession

    runtime = target.runtime(Folder(folder / graph), targets.Workload(image=(), max_batch=1))
    return OpenVinoSession(folder / graph / "model.xml", threads, runtime.settings)


OPENERS: dict[str, Callable[[Path, str, int], Session]] = {
    "torch": open_torch,
    "inductor": open_inductor,
    "inductor-frozen": open_frozen_inductor,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
    "openvino-ir": open_openvino_ir,
}


def open_model(runner: str, folder: Path, graph: str, batch: int, threads: int) -> tuple[Run, Opened]:
    """Open the model, compare its first answer with PyTorch's, and warm it up."""
    images = np.load(folder / f"inputs-{batch}.npy")
    started_s = time.perf_counter()
    session = OPENERS[runner](folder, graph, threads)
    logits = session(images)
    open_s = time.perf_counter() - started_s
    errors = [relative_error(logits, np.load(folder / f"{name}-{batch}.npy")) for name in ("float32", "float64")]

    def run() -> Floats:
        return session(images)

    time_calls(run, at_least=WARM_UP_CALLS)
    return run, Opened(open_s, *errors)


def relative_error(logits: Floats, expected: NDArray[np.floating]) -> float:
    """max |Δ| / max |expected|.

    Raises:
        ValueError: the shapes differ, or a logit is not finite.
    """
    if logits.shape != expected.shape or not np.isfinite(logits).all():
        raise ValueError(f"answered {logits.shape}, expected finite {expected.shape}")
    return float(np.abs(logits.astype(np.float64) - expected).max() / np.abs(expected).max())


def main(arguments: list[str]) -> None:
    runner, folder, graph, batch, threads = arguments
    from paraexport.errors import MissingError

    try:
        run, opened = open_model(runner, Path(folder), graph, int(batch), int(threads))
    except (ImportError, MissingError) as error:
        print(json.dumps({"error": f"not installed: {on_one_line(error)}"}), flush=True)
    except Exception as error:  # a peer that fails is a result, whatever it raises
        print(json.dumps({"error": f"{type(error).__name__}: {on_one_line(error)}"}), flush=True)
    else:
        contest.serve(lambda _: run(), dataclasses.asdict(opened), until_idle=True)


def on_one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
