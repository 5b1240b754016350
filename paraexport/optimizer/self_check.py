"""Two graphs on the same images in ONNX Runtime: one that was rewritten must answer as the one before.

Random images are judged by the limit alone. The edge images are those on which a rewrite that is nearly right shows.
On some of them a model may be so ill-conditioned that it answers otherwise even when its input or its weights move by
one rounding: there that difference, times `ALLOWED_ROUNDINGS`, is the limit where it is larger. Its weights, since of
the difference of what is alike, as are the tokens of a blank image, nothing but rounding is left.
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
Answers = Sequence[NDArray[np.float32]]
Run = Callable[[Images], Answers]
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
class Difference:
    """How far two graphs are apart on one case; infinity where only the first answers finite numbers."""

    case: Case
    value: float
    limit: float

    @property
    def passed(self) -> bool:
        return self.value <= self.limit


def cases(shape: tuple[int, int, int]) -> Iterator[Case]:
    """Images [N, *shape] in batches of 1, 2 and 7."""
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
    """Zeros but for one number in each image, each at another place."""
    images = np.zeros((whole[0], int(np.prod(whole[1:]))), np.float32)
    images[np.arange(whole[0]), np.arange(whole[0]) * 7919 % images.shape[1]] = 1
    return images.reshape(whole)


def open_graph(path: Path, images: str, *, moved: bool = False) -> Run:
    """The graph at `path` on the CPU, `images` being the name of its input; with `moved`, its weights are.

    Raises:
        InputError: ONNX Runtime cannot open it.
    """
    import onnxruntime

    from paraexport.targets.ort.cpu import checking_options

    options = checking_options()
    weights = [*moved_weights(path)] if moved else []
    # The session reads these arrays as long as it lives, which `run` keeps.
    held = [(name, onnxruntime.OrtValue.ortvalue_from_numpy(array)) for name, array in weights]
    if moved:
        # Its optimisers turn a constant to save a Transpose; one that is given here would stay as it was.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for name, value in held:
        options.add_initializer(name, value)
    try:
        session = onnxruntime.InferenceSession(plain(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it raises a class of its own for each code
        raise refusal(error, "ONNX Runtime cannot open the graph", path) from error

    def run(batch: Images) -> Answers:
        assert len(held) == len(weights)
        try:
            found: Answers = session.run(None, {images: batch})
        except Exception as error:
            raise refusal(error, "ONNX Runtime cannot run the graph", path) from error
        return found

    return run


def refusal(error: Exception, what: str, path: Path) -> ParaexportError:
    """What ONNX Runtime raised, as an error of ours."""
    got = on_one_line(error)[:MOST_CHARACTERS]
    return lack_of_memory(error, path, "free memory") or InputError(what, where=path, got=got, remedy=REMEDY)


def moved_weights(path: Path) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """The matrices and kernels of a graph, each number moved by its last bit or not."""
    from paraexport.graph.onnx_file import forget_pages, load

    random = np.random.default_rng(SEEDS)
    for name, value in load(path).graph.initializers.items():
        tensor = value.const_value
        if tensor is not None and tensor.dtype.name == "FLOAT" and len(tensor.shape) > 1:
            moves = random.integers(-1, 2, tensor.shape.numpy())
            yield name, (tensor.numpy() * (1 + moves * ROUNDING)).astype(np.float32)
            forget_pages([tensor])


class Reference:
    """The answers of the graph as it was, and how much each case may differ from them.

    The limit of an edge case is wider where the graph itself shifts with the last bit of its input or its weights.
    """

    def __init__(self, run: Run, shape: tuple[int, int, int], where: Path) -> None:
        self.known: list[tuple[Case, Answers, float]] = []
        for case in cases(shape):
            answers = run(case.images)
            if not case.is_edge and not any(np.isfinite(one).any() for one in answers):
                got = f"none on {case}"
                raise InputError("the graph answers nothing finite", where=where, got=got, remedy="check the model")
            limit = widened(LIMIT.value, answers, run(moved_images(case))) if case.is_edge else LIMIT.value
            self.known.append((case, answers, limit))

    def allow(self, moved: Run) -> None:
        """Widen the limits by `moved`, the graph with its weights moved by their last bit.

        By then the graph itself may be closed: each of the two holds all the weights.
        """
        self.known = [
            (case, answers, widened(limit, answers, moved(case.images)) if case.is_edge else limit)
            for case, answers, limit in self.known
        ]

    def own_shift(self, moved: Run, case: Case) -> float:
        """How far the graph is from itself on `case` once its weights are moved by their last bit."""
        (answers,) = (answers for known, answers, _ in self.known if known is case)
        return apart(answers, moved(case.images))

    def differences(self, run: Run) -> Iterator[Difference]:
        """How far a graph is from it, case by case."""
        for case, answers, limit in self.known:
            yield Difference(case, apart(answers, run(case.images)), limit)


def moved_images(case: Case) -> Images:
    factors = np.where(np.arange(case.images.size) % 2, 1, 1 + ROUNDING).reshape(case.images.shape)
    return (case.images * factors).astype(np.float32)


def widened(limit: float, answers: Answers, moved: Answers) -> float:
    shift = apart(answers, moved)
    return max(limit, ALLOWED_ROUNDINGS * shift) if np.isfinite(shift) else limit


def apart(expected: Answers, got: Answers) -> float:
    """max |Δ| / max |value| of the worst output, among numbers that are finite in the first."""
    if len(expected) != len(got) or any(one.shape != other.shape for one, other in zip(expected, got, strict=True)):
        return float("inf")
    return max(apart_in_one(one, other) for one, other in zip(expected, got, strict=True))


def apart_in_one(expected: NDArray[np.float32], got: NDArray[np.float32]) -> float:
    finite = np.isfinite(expected)
    if not finite.any():
        return 0.0
    if not np.isfinite(got[finite]).all():
        return float("inf")
    wanted, found = expected[finite].astype(np.float64), got[finite].astype(np.float64)
    largest = float(np.abs(wanted).max())
    return float(np.abs(found - wanted).max()) / (largest or 1.0)


def as_check(found: Sequence[Difference]) -> Check:
    """All differences as one check, of the worst relative to its limit."""
    worst = max(found, key=lambda one: one.value / one.limit)
    reason = LIMIT.reason
    if widened := {one.case.kind for one in found if one.limit > LIMIT.value}:
        reason += f"; more is allowed on {', '.join(sorted(widened))}, where the graph itself shifts with the last bit"
    value = worst.value if np.isfinite(worst.value) else None
    images = sum(len(one.case.images) for one in found)
    return Check("self-check", value, worst.limit, UNIT, images, all(one.passed for one in found), reason)
