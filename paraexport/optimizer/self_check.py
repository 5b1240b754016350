"""Runs two graphs on the same images in ONNX Runtime: a rewritten graph must give the answers of the original.

Random images have a fixed limit. Edge images reveal rewrites that are nearly right. On some of them a model may be so
ill-conditioned that its own answers change when its input or its weights change by one rounding. There the limit is
`ALLOWED_ROUNDINGS` times this change, if that is larger. Weights matter too: in a blank image all tokens are equal, so
their differences consist of rounding errors only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from paraexport.checks.limits import LIMITS
from paraexport.checks.verdicts import BATCH_SIZES
from paraexport.errors import InputError, ParaexportError, lack_of_memory, on_one_line
from paraexport.findings.checks import Check
from paraexport.system.plain_paths import plain

Images = NDArray[np.float32]
"""[N, C, H, W]."""
Outputs = Sequence[NDArray[np.float32]]
Run = Callable[[Images], Outputs]
"""float32 [N, C, H, W] -> every output of the graph."""
LIMIT = LIMITS["fp32"]["parity"]
UNIT = "max |Δ| / max |value|"
SEEDS = 3
LARGE, SMALL = 1e6, 1e-6
ROUNDING = 2.0**-23
ALLOWED_ROUNDINGS = 16
REMEDY = "export a graph that runs there"
MOST_CHARACTERS = 500


@dataclass(frozen=True, eq=False)
class Case:
    """Images to compare on."""

    kind: str
    images: Images
    is_edge: bool = True

    def __str__(self) -> str:
        return f"{self.kind}, batch {len(self.images)}"


@dataclass(frozen=True)
class CaseDifference:
    """The difference of two graphs on one case; infinite if only the first gives finite numbers."""

    case: Case
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit


def cases(shape: tuple[int, int, int]) -> Iterator[Case]:
    """Images [N, *shape] in batches of 1, 2 and 7: random ones, and edge cases."""
    for size in BATCH_SIZES:
        whole = (size, *shape)
        for seed in range(SEEDS):
            images = np.random.default_rng((seed, size)).standard_normal(whole).astype(np.float32)
            yield Case(f"random images, seed {seed}", images, is_edge=False)
        yield Case("sign flips", -images)
        yield Case("signs", np.sign(images))
        yield Case("zeros", np.zeros(whole, np.float32))
        yield Case("a constant", np.full(whole, 0.5, np.float32))
        yield Case("very large numbers", images * np.float32(LARGE))
        yield Case("very small numbers", images * np.float32(SMALL))
        yield Case("one pixel each", one_pixel(whole))


def one_pixel(whole: tuple[int, ...]) -> Images:
    """Zeros with a single 1 in each image, each at another place."""
    images = np.zeros((whole[0], int(np.prod(whole[1:]))), np.float32)
    images[np.arange(whole[0]), np.arange(whole[0]) * 7919 % images.shape[1]] = 1
    return images.reshape(whole)


def open_graph(path: Path, images: str, *, moved: bool = False) -> Run:
    """Open the graph at `path` on the CPU.

    Args:
        images: the name of its input.
        moved: whether to change its weights by one rounding.

    Raises:
        InputError: ONNX Runtime cannot open it.
    """
    import onnxruntime

    from paraexport.targets.ort.cpu import checking_options

    options = checking_options()
    weights = [*moved_weights(path)] if moved else []
    # The session reads these arrays as long as it lives, so `run` keeps a reference to them.
    held = [(name, onnxruntime.OrtValue.ortvalue_from_numpy(array)) for name, array in weights]
    if moved:
        # Its optimisers transpose constants in place of a Transpose. They would not transpose the arrays given here.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, value in held:
        options.add_initializer(name, value)
    try:
        session = onnxruntime.InferenceSession(plain(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has an exception class for each code
        raise refusal(error, "ONNX Runtime cannot open the graph", path) from error

    def run(batch: Images) -> Outputs:
        assert len(held) == len(weights)
        try:
            outputs: Outputs = session.run(None, {images: batch})
        except Exception as error:
            raise refusal(error, "ONNX Runtime cannot run the graph", path) from error
        return outputs

    return run


def refusal(error: Exception, what: str, path: Path) -> ParaexportError:
    """The error of ONNX Runtime as one of ours."""
    got = on_one_line(error)[:MOST_CHARACTERS]
    return lack_of_memory(error, path, "free memory") or InputError(what, where=path, got=got, remedy=REMEDY)


def moved_weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The matrices and kernels of a graph, with each number randomly changed by its last bit or not."""
    from paraexport.graph.onnx_file import forget_pages, load

    random = np.random.default_rng(SEEDS)
    for name, value in load(path).graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype.name == "FLOAT" and len(tensor.shape) > 1:
            moves = random.integers(-1, 2, tensor.shape.numpy())
            yield name, (tensor.numpy() * (1 + moves * ROUNDING)).astype(np.float32)
            forget_pages([tensor])


class ReferenceAnswers:
    """The answers of the original graph, with a limit for each case.

    The limit of an edge case is larger if the graph's own answers change with the last bit of its input or weights.
    """

    def __init__(self, run: Run, shape: tuple[int, int, int], where: Path) -> None:
        self.known: list[tuple[Case, Outputs, float]] = []
        for case in cases(shape):
            answers = run(case.images)
            if not case.is_edge and not any(np.isfinite(output).any() for output in answers):
                got = f"none on {case}"
                raise InputError("the graph gives no finite numbers", where=where, got=got, remedy="check the model")
            limit = widen(LIMIT.value, answers, run(moved_images(case))) if case.is_edge else LIMIT.value
            self.known.append((case, answers, limit))

    def allow(self, moved: Run) -> None:
        """Widen the limits with `moved`, the graph whose weights are changed by their last bit.

        The original graph can be closed before: each of the two holds all weights.
        """
        self.known = [
            (case, answers, widen(limit, answers, moved(case.images)) if case.is_edge else limit)
            for case, answers, limit in self.known
        ]

    def own_shift(self, moved: Run, case: Case) -> float:
        """The change of the graph's answers on `case` if its weights change by their last bit."""
        (answers,) = (answers for known, answers, _ in self.known if known is case)
        return largest_difference(answers, moved(case.images))

    def differences(self, run: Run) -> Iterator[CaseDifference]:
        """The difference of another graph, case by case."""
        for case, answers, limit in self.known:
            yield CaseDifference(case, largest_difference(answers, run(case.images)), limit)


def moved_images(case: Case) -> Images:
    factors = np.where(np.arange(case.images.size) % 2, 1, 1 + ROUNDING).reshape(case.images.shape)
    return (case.images * factors).astype(np.float32)


def widen(limit: float, answers: Outputs, moved: Outputs) -> float:
    shift = largest_difference(answers, moved)
    return max(limit, ALLOWED_ROUNDINGS * shift) if np.isfinite(shift) else limit


def largest_difference(expected: Outputs, got: Outputs) -> float:
    """max |Δ| / max |value| of the worst output. Only numbers that are finite in `expected` count."""
    if [output.shape for output in expected] != [output.shape for output in got]:
        return float("inf")
    return max(difference_of_output(*pair) for pair in zip(expected, got, strict=True))


def difference_of_output(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    finite = np.isfinite(expected)
    if not finite.any():
        return 0.0
    if not np.isfinite(got[finite]).all():
        return float("inf")
    reference, values = expected[finite].astype(np.float64), got[finite].astype(np.float64)
    largest = float(np.abs(reference).max())
    return float(np.abs(values - reference).max()) / (largest or 1.0)


def as_check(differences: Sequence[CaseDifference]) -> Check:
    """All differences as one check. Its value is the worst one, relative to its limit."""
    worst = max(differences, key=lambda difference: difference.value / difference.limit)
    reason = LIMIT.reason
    if widened := {difference.case.kind for difference in differences if difference.limit > LIMIT.value}:
        kinds = ", ".join(sorted(widened))
        reason += f"; more is allowed on {kinds}, because the file's own answers change there with the last bit"
    value = worst.value if np.isfinite(worst.value) else None
    images = sum(len(difference.case.images) for difference in differences)
    passed = all(difference.passed for difference in differences)
    return Check("self-check", value, worst.limit, UNIT, images, passed, reason)
