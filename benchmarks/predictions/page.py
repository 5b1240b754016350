"""Writes the comparison as a page: the shares, the rows that are off, and the numbers of the model."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.harness.pages import markdown_table
from benchmarks.predictions.compare import LIMIT, Row, off
from paraexport.bench.predict.devices import DEVICES
from paraexport.bench.predict.runtimes import Runtime

REASONS = {
    "ModelOpt, ONNX Runtime": "measured no faster than float32, so it probably ran without int8 kernels",
    "ONNX Runtime: Q/DQ, activations int8": "slow kernels for signed activations; no bundle has this form",
    "stacked, ONNX Runtime": "batched weights are not packed, which probably costs most at batch 1",
    "ModelOpt, OpenVINO": "an int8 graph of another tool; the numbers for int8 are those of our graphs",
}
"""By contestant, why the model does not know."""


def page(rows: Sequence[Row], runtimes: Mapping[str, Runtime], peaks: Mapping[str, float], command: str) -> str:
    return f"""# Predicted and measured latency

`{command}`
Predicted divided by measured, for every latency in `benchmarks/results/`. {share(rows)}.
[predictions.csv](predictions.csv) has all rows. [scaling.md](../../docs/scaling.md) has the formula.

- `fit`: the numbers of the model come from these rows. `scale`: they give the speed of the machine in their file.
  `check`: the model was compared with them afterwards.
- `check` rows are not all blind. The form of the formula was chosen with `peers` and `scaling` in sight, and the rows
  for int8 after a first fit to `int8.csv` alone. `paper/latency.csv` came after the formula was fixed.
- No GPU was measured in this project. `published` are results of others, with large batches.
- `paper/latency.csv` ran beside other work on another CPU, and calls all its rows unstable. Its fastest calls are read.
  `branches.md` has first looks of such a machine, so it is left out.
- Not latencies, so not predicted: `engines*`, `attention_forms`, `large-2400`, `loading`, `int8-accuracy`, the
  other files of `paper`. The products of two large matrices in `peers` give the peak.

{markdown_table([*summary(rows)])}

## Off by more than {LIMIT}

{markdown_table([*outside(rows)])}

## The numbers

Fitted on `peers.csv` in float32, and on the graphs of our bundles with M = 2 in `int8.csv` and `forms.csv` in int8.
For PyTorch, only one layout was measured, so bytes have no number of their own.

{markdown_table([*numbers(runtimes)])}

The speed of one large float32 product was measured for `peers` and the operators. `scaling` ran six minutes after
`peers`. In the other files it is the one with which the median of the `scale` rows is right. In GFLOP/s:
{", ".join(peak_texts(peaks))}.

## Devices

Peaks are dense, in T operations a second. Arithmetic reaches 80 % of the peak, memory 80 % of its bandwidth.

{markdown_table([*devices()])}

## All rows

{markdown_table([*every(rows)])}
"""


def share(rows: Sequence[Row]) -> str:
    """`230 of 263 are within a factor of 1.5, the worst is off by 2.9`."""
    within = sum(row.within for row in rows)
    return f"{within} of {len(rows)} are within a factor of {LIMIT}, the worst is off by {max(map(off, rows)):.2f}"


def summary(rows: Sequence[Row]) -> Iterator[list[str]]:
    yield ["part", "rows of", "precision", "where", "rows", f"within {LIMIT}", "worst", "typical"]
    yield ["-"] * 8
    key_rows: dict[tuple[str, str, str, str], list[Row]] = {}
    for row in rows:
        key_rows.setdefault((row.part, row.kind, row.precision, row.where), []).append(row)
    for key, group in sorted(key_rows.items()):
        typical = math.exp(statistics.median(math.log(off(row)) for row in group))
        within = sum(row.within for row in group)
        yield [*key, str(len(group)), str(within), f"{max(map(off, group)):.2f}", f"{typical:.2f}"]


def outside(rows: Sequence[Row]) -> Iterator[list[str]]:
    yield ["file", "contestant", "L", "M", "batch", "ms", "predicted", "ratio", "why"]
    yield ["-"] * 9
    for row in sorted((row for row in rows if not row.within), key=off, reverse=True):
        times = [f"{row.measured_ms:.3g}", f"{row.predicted_ms:.3g}", f"{row.ratio:.2f}"]
        why = REASONS.get(row.contestant, "unknown")
        yield [row.file, row.contestant, str(row.branches), str(row.depth), str(row.batch), *times, why]


def numbers(runtimes: Mapping[str, Runtime]) -> Iterator[list[str]]:
    yield ["runtime", "share of the peak", "start, µs", "GB/s", "int8 / float32", "int8 product, µs more"]
    yield ["-"] * 6
    for name, each in runtimes.items():
        int8 = [f"{each.int8_speed:g}", f"{1e6 * each.quantised_s:.3g}"] if each.quantised_s else ["", ""]
        bandwidth = "" if math.isinf(each.bandwidth) else f"{each.bandwidth / 1e9:.3g}"
        yield [name, f"{each.efficiency:g}", f"{1e6 * each.start_s:.3g}", bandwidth, *int8]


def peak_texts(peaks: Mapping[str, float]) -> Iterator[str]:
    return (f"{name} {peak / 1e9:.0f}" for name, peak in peaks.items())


def devices() -> Iterator[list[str]]:
    yield ["device", "fp32", "fp16, bf16", "int8", "GB/s", "start, µs", "source"]
    yield ["-"] * 7
    for device in DEVICES.values():
        peaks = (device.peaks[name] / 1e12 for name in ("fp32", "fp16", "int8"))
        rates = [*(f"{peak:g}" for peak in peaks), f"{device.bandwidth / 1e9:g}", f"{1e6 * device.start_s:g}"]
        yield [f"{device.name}: {device.title}", *rates, device.sources["peaks"]]


def every(rows: Sequence[Row]) -> Iterator[list[str]]:
    yield ["file", "contestant", "where", "L", "M", "batch", "precision", "part", "ms", "predicted", "ratio"]
    yield ["-"] * 11
    for row in rows:
        sizes = [str(row.branches), str(row.depth), str(row.batch)]
        times = [f"{row.measured_ms:.3g}", f"{row.predicted_ms:.3g}", f"{row.ratio:.2f}"]
        yield [row.file, row.contestant, row.where, *sizes, row.precision, row.part, *times]
