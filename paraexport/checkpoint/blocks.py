"""Finds the naming convention of the blocks, and the numbers in the names that count branches and layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from paraexport.checkpoint.conventions import CONVENTIONS, QKV, RELEASED, VIT_PYTORCH_OLD, Convention, is_number
from paraexport.checkpoint.given import Given, Guesses
from paraexport.checkpoint.names import kinds
from paraexport.errors import CheckpointError, shortlist

BRANCH_WORD = re.compile(r"branch|para|encoders|transformers|towers|streams", re.IGNORECASE)
DEPTH_WORD = re.compile(r"layer|block|depth", re.IGNORECASE)
NUMBER = "\0"
"""Replaces a number in a template. No name contains it."""
MOST_ABSENT = 9
"""How many blocks may be missing for each that is present. A huge index in a name must not fill the memory."""


@dataclass(frozen=True)
class Blocks:
    """L · M blocks: their prefixes by (branch, layer), and the block and part of each key."""

    convention: Convention
    branches: int
    depth: int
    prefixes: Mapping[tuple[int, int], str]
    """The prefix of every block, even if the checkpoint lacks it."""
    parts: Mapping[str, tuple[tuple[int, int], str]]
    """Key in the checkpoint -> ((branch, layer), name of the part in the convention)."""
    words: frozenset[str]
    """The words in the prefixes. They may also come before the names of the stem and the head."""


def find_blocks(keys: Iterable[str], given: Given, guesses: Guesses) -> Blocks:
    """Find the blocks from the names of the tensors.

    Raises:
        CheckpointError: the names of no known convention contain an attention, or the numbers have large gaps.
    """
    names = list(keys)
    convention, splits = choose_convention(names, given, guesses)
    templates = Counter(template(prefix) for prefix, _ in splits.values())
    most_common = templates.most_common(1)[0][0]
    inside = {key: split for key, split in splits.items() if template(split[0]) == most_common}
    branch_axis, depth_axis = choose_axes(
        convention, most_common, [prefix for prefix, _ in inside.values()], given, guesses
    )

    def place(prefix: str) -> tuple[int, int]:
        steps = prefix.split(".")
        return tuple(int(steps[axis]) if axis is not None else 0 for axis in (branch_axis, depth_axis))  # type: ignore[return-value]

    places = {place(prefix) for prefix, _ in inside.values()}
    (first_branch, branches), (first_layer, depth) = (span({at[axis] for at in places}) for axis in (0, 1))
    if branches * depth > len(places) * (1 + MOST_ABSENT):
        last = max((prefix for prefix, _ in inside.values()), key=place)
        raise CheckpointError(
            f"the names count {branches} branches of {depth} layers, but {len(places)} of {branches * depth} exist",
            expected="consecutive numbers",
            got=last,
        )

    def prefix_at(branch: int, layer: int) -> str:
        steps = next(iter(inside.values()))[0].split(".")
        for axis, number in ((branch_axis, branch + first_branch), (depth_axis, layer + first_layer)):
            if axis is not None:
                steps[axis] = str(number)
        return ".".join(steps)

    def index(prefix: str) -> tuple[int, int]:
        branch, layer = place(prefix)
        return branch - first_branch, layer - first_layer

    return Blocks(
        convention=convention,
        branches=branches,
        depth=depth,
        prefixes={(b, m): prefix_at(b, m) for b in range(branches) for m in range(depth)},
        parts={key: (index(prefix), part) for key, (prefix, part) in inside.items()},
        words=frozenset(step for step in most_common if step != NUMBER),
    )


def choose_convention(
    names: list[str], given: Given, guesses: Guesses
) -> tuple[Convention, dict[str, tuple[str, str]]]:
    """The convention that fits most names, and each of these names split into (block, part)."""
    splits = {
        convention.name: {key: split for key in names if (split := convention.split(key)) is not None}
        for convention in CONVENTIONS
    }
    best = max(CONVENTIONS, key=lambda convention: len(splits[convention.name]))
    best_split = splits[best.name]
    if not any(best.parts[part] in (f"{QKV}.weight", "attention.query.weight") for _, part in best_split.values()):
        raise CheckpointError(
            f"the {len(names)} tensors contain no Transformer blocks of a known convention",
            expected=f"the names of {', '.join(convention.name for convention in CONVENTIONS)}",
            got=shortlist(kinds(names), 6),
            remedy="if only names differ, give --rename OLD=NEW; if not, a function that builds the model: "
            "--module FILE.py:FUNCTION",
        )
    if best is RELEASED and len(splits[VIT_PYTORCH_OLD.name]) == len(best_split):
        best = released_or_old(best_split, given, guesses)
    return best, splits[best.name]


def released_or_old(splits: Mapping[str, tuple[str, str]], given: Given, guesses: Guesses) -> Convention:
    """Choose between two conventions whose names are alike.

    `….{i}.0.fn.to_qkv` is branch i with one layer in the released code, but layer i in old vit-pytorch.
    """
    steps = template(next(iter(splits.values()))[0])
    outer = steps[:-1]  # without the layer that `halves` counts
    if outer.count(NUMBER) > 1:
        return VIT_PYTORCH_OLD
    if any(BRANCH_WORD.search(step) for step in outer):
        return RELEASED
    if any(re.search("layer|transformer", step, re.IGNORECASE) for step in outer):
        return VIT_PYTORCH_OLD
    count = len({prefix for prefix, _ in splits.values()})
    if given.residual == "normalized" and given.branches in (None, count) and given.depth in (None, 1):
        return RELEASED
    if given.residual is None:
        guesses.assume(
            "residual",
            VIT_PYTORCH_OLD.residual,
            "the names fit both old vit-pytorch and the released Para-Former code with one layer per branch;"
            " for the latter, give --spec residual=normalized",
        )
    return VIT_PYTORCH_OLD


def template(prefix: str) -> tuple[str, ...]:
    """`branches.3.blocks.0` -> (branches, NUMBER, blocks, NUMBER)."""
    return tuple(NUMBER if is_number(step) else step for step in prefix.split(".")) if prefix else ()


def choose_axes(
    convention: Convention, steps: tuple[str, ...], prefixes: list[str], given: Given, guesses: Guesses
) -> tuple[int | None, int | None]:
    """The steps of the prefixes that count branches and layers; None if there is only one and no number."""
    axes = [axis for axis, step in enumerate(steps) if step == NUMBER]
    numbers = {axis: {prefix.split(".")[axis] for prefix in prefixes} for axis in axes}
    if len(axes) > 2:
        axes = [axis for axis in axes if len(numbers[axis]) > 1]
    if len(axes) > 2:
        raise CheckpointError(
            f"the names of blocks contain {len(axes)} numbers, as in {prefixes[0]}",
            expected="at most two, for the branch and the layer",
            remedy="if it is an ensemble, save one of its models; for another design, use --module FILE.py:FUNCTION",
        )
    counts = [len(numbers[axis]) for axis in axes]
    roles = [role(steps[axis - 1] if axis else "") for axis in axes]
    if not axes:
        return None, None
    if convention.halves:
        return (axes[0] if len(axes) == 2 else None), axes[-1]
    if len(axes) == 1:
        return one_axis(axes[0], roles[0], counts[0], given, guesses)
    return two_axes(axes, roles, counts, prefixes[0], given=given, guesses=guesses)


def two_axes(
    axes: list[int], roles: list[str | None], counts: list[int], example: str, *, given: Given, guesses: Guesses
) -> tuple[int, int]:
    outer, inner = axes
    if roles in (["depth", "branch"], [None, "branch"]):
        return inner, outer
    if roles in (["branch", "depth"], ["branch", None]):
        return outer, inner
    stated = (given.branches, given.depth)
    layers_inside = roles == [None, "depth"]
    if counts[0] != counts[1] and not layers_inside and fits(stated, (counts[1], counts[0])):
        return inner, outer
    if not fits(stated, (counts[0], counts[1])):
        stages = ", not stages one after another" if layers_inside else ""
        guesses.assume("branches", counts[0], f"the outer number in {example} is assumed to count branches{stages}")
    return outer, inner


def one_axis(axis: int, named: str | None, count: int, given: Given, guesses: Guesses) -> tuple[int | None, int | None]:
    stated = (given.branches, given.depth)
    if count > 1 and given.branches == count and given.depth in (None, 1):
        return axis, None  # the options or a config settle it, so the word before the number does not matter
    if named == "branch" or (named is None and count > 1 and fits(stated, (count, 1))):
        return axis, None
    if named is None and count > 1 and not fits(stated, (1, count)):
        guesses.assume("depth", count, "the names do not show whether their number counts branches or layers")
    return None, axis


def fits(stated: tuple[int | None, int | None], counted: tuple[int, int]) -> bool:
    """Whether branches or layers are stated, and nothing stated contradicts these counts."""
    return stated != (None, None) and all(
        number in (None, count) for number, count in zip(stated, counted, strict=True)
    )


def role(word: str) -> str | None:
    if BRANCH_WORD.search(word):
        return "branch"
    return "depth" if DEPTH_WORD.search(word) else None


def span(numbers: set[int]) -> tuple[int, int]:
    """(first number, count). A single number, of any value, counts as one; else numbers start at 0."""
    if len(numbers) == 1:
        return next(iter(numbers)), 1
    return 0, max(numbers) + 1
