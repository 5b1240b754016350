"""Show how the time of a layout splits by type of operator, as the runtime's own profiler reports it.

    python -m benchmarks.operators --runtime onnxruntime --layout stacked -o benchmarks/results/

Read the shares: a profiled run is a little slower than other runs. For latencies, use `benchmarks.peers`.
"""

from __future__ import annotations

import csv
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import machine, pages, worker
from benchmarks.harness.contest import THREADS
from benchmarks.harness.subjects import OURS, PLAIN, PRODUCT, Subject, prepare, prepare_product, released
from benchmarks.peers import PRODUCT_SIZE, TARGETS, print_progress
from paraexport import targets
from paraexport.timing.calls import time_calls
from paraexport.timing.stability import repeat_until_stable

WARM_UP, CALLS = 20, 100
BETWEEN = "between operators"
PRODUCTS = ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "Conv", "FullyConnected", "Convolution")
"""How both runtimes name products of matrices."""
COLUMNS = ("runtime", "layout", "branches", "depth", "batch", "operator", "ms_per_call", "share")
Milliseconds = dict[str, float]


def profile_onnxruntime(model: Path, images: NDArray[np.float32], threads: int) -> Milliseconds:
    """Milliseconds a call by type of operator. The rest of the call is `BETWEEN`."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    options.profile_file_prefix = str(model.parent / "profile")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for _ in range(WARM_UP + CALLS):
        session.run(None, {session.get_inputs()[0].name: images})
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    runs = sorted((event["ts"], event["dur"]) for event in events if event["name"] == "model_run")[WARM_UP:]
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= runs[0][0]:
            spent[event["args"]["op_name"]] += event["dur"]
    spent[BETWEEN] = sum(duration for _, duration in runs) - spent.total()
    return {name: duration / 1e3 / len(runs) for name, duration in spent.items()}


def profile_openvino(model: Path, images: NDArray[np.float32], threads: int) -> Milliseconds:
    """Milliseconds a call by type of operator. The rest of the call is `BETWEEN`."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "PERF_COUNT": True}
    compiled = openvino.Core().compile_model(model, "CPU", {**settings, "INFERENCE_NUM_THREADS": threads})
    request = compiled.create_infer_request()
    spent: defaultdict[str, float] = defaultdict(float)
    total_s = 0.0
    for call in range(WARM_UP + CALLS):
        (latency_ms,) = time_calls(lambda: request.infer({0: images}, share_inputs=True))
        if call >= WARM_UP:
            total_s += latency_ms / 1e3
            for node in request.profiling_info:
                spent[node.node_type] += node.real_time.total_seconds()
    spent[BETWEEN] = total_s - sum(spent.values())
    return {name: duration_s * 1e3 / CALLS for name, duration_s in spent.items() if duration_s}


PROFILERS: dict[str, Callable[[Path, NDArray[np.float32], int], Milliseconds]] = {
    "onnxruntime": profile_onnxruntime,
    "openvino": profile_openvino,
}


def peak_gflop_per_s(runtime: str, product: Subject, threads: int) -> float:
    """The rate of `runtime` on one large product."""
    run, _ = worker.open_model(runtime, product.folder, PRODUCT, 1, threads)
    latency_ms = repeat_until_stable(lambda: time_calls(run, at_least=10)).latency_ms
    return 2e-6 * product.multiply_adds[PRODUCT] / latency_ms


def table(spent: Milliseconds, gflop: float, peak: float) -> str:
    total_ms = sum(spent.values())
    lines = [f"| {'operator':22} | ms a call | share |", "| - | - | - |"]
    lines += [
        f"| {name:22} | {ms:9.3f} | {ms / total_ms:5.0%} |"
        for name, ms in sorted(spent.items(), key=lambda pair: -pair[1])
    ]
    products_ms = sum(ms for name, ms in spent.items() if name in PRODUCTS)
    lines += [
        "",
        f"{gflop:.3f} GFLOP in {total_ms:.2f} ms, {gflop / total_ms * 1e3:.0f} GFLOP/s; one large product reaches "
        f"{peak:.0f} GFLOP/s, at which it would take {gflop / peak * 1e3:.2f} ms. Products take {products_ms:.2f} ms.",
    ]
    return "\n".join(lines)


@click.command(help="Show how the time of a layout splits by type of operator.")
@click.option(
    "--runtime", type=click.Choice(tuple(TARGETS)), default="onnxruntime", show_default=True, help="Runtime to profile."
)
@click.option(
    "--layout",
    type=click.Choice((PLAIN, *OURS)),
    default="stacked",
    show_default=True,
    help="Layout, or the plain export.",
)
@click.option("--depth", "depths", multiple=True, default=(2, 1), show_default=True, help="M, layers in a branch.")
@click.option("--branches", default=16, show_default=True, help="L.")
@click.option("--batch", "batches", multiple=True, default=(1, 8), show_default=True, help="Images in a call.")
@click.option("--threads", default=THREADS, show_default=True, help="Threads of each runtime.")
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV and table.")
def main(
    *,
    runtime: str,
    layout: str,
    depths: tuple[int, ...],
    branches: int,
    batches: tuple[int, ...],
    threads: int,
    output: Path | None,
) -> None:
    targets.require(runtime)
    here = machine.describe().line()
    print_progress(here)
    rows, page = [], [f"# Time of {layout} by operator\n\n`{pages.command()}` on {here}."]
    with tempfile.TemporaryDirectory() as temporary:
        product = prepare_product(PRODUCT_SIZE, Path(temporary) / PRODUCT)
        peak = peak_gflop_per_s(runtime, product, threads)
        for depth in depths:
            subject = prepare(released(branches, depth, "cls"), Path(temporary) / str(depth), batches, [layout])
            for batch in batches:
                images = np.load(subject.folder / f"inputs-{batch}.npy")
                spent = PROFILERS[runtime](subject.folder / layout / "model.onnx", images, threads)
                title = f"{layout} on {TARGETS[runtime]}, L = {branches}, M = {depth}, batch {batch}"
                operators = table(spent, 2e-9 * batch * subject.multiply_adds[layout], peak)
                page.append(f"{title}\n\n{operators}")
                print(page[-1], end="\n\n", flush=True)
                whole = sum(spent.values())
                rows += [(runtime, layout, branches, depth, batch, name, ms, ms / whole) for name, ms in spent.items()]
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        with (output / f"operators-{runtime}-{layout}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows([pages.csv_value(value) for value in row] for row in rows)
        text = "\n\n".join(page) + "\n"
        (output / f"operators-{runtime}-{layout}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
