"""A good checkpoint after random changes loads as the model that its weights now make, or is refused in one line."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paraexport.checkpoint.load import Checkpoint, load_checkpoint
from paraexport.errors import ParaexportError
from tests import reference
from tests.checkpoint.cases import Case, cases, options
from tests.checkpoint.writers import random_weights, saved, state_dict

WORDS = (
    "#",
    "0",
    "1",
    "99",
    "²",
    "01",
    "-1",
    "",
    "norm",
    "attn",
    "branches",
    "layers",
    "model",
    "weight",
    "fn",
    "head",
)
SIZES = (0, 1, 2, 3, 8, 12, 24, 64)
StateDict = dict[str, Tensor]


def dropped(written: StateDict, name: str, pick: random.Random) -> None:
    del written[name]


def dropped_everywhere(written: StateDict, name: str, pick: random.Random) -> None:
    for other in [other for other in written if other.split(".")[-2:] == name.split(".")[-2:]]:
        del written[other]


def renamed(written: StateDict, name: str, pick: random.Random) -> None:
    steps = name.split(".")
    steps[pick.randrange(len(steps))] = pick.choice(WORDS)
    written[".".join(steps)] = written.pop(name)


def renamed_everywhere(written: StateDict, name: str, pick: random.Random) -> None:
    old, new = pick.choice(name.split(".")), pick.choice(WORDS)
    changed = {
        ".".join(new if step == old else step for step in key.split(".")): value for key, value in written.items()
    }
    written.clear()
    written.update(changed)


def nested(written: StateDict, name: str, pick: random.Random) -> None:
    steps = name.split(".")
    steps.insert(pick.randrange(len(steps) + 1), pick.choice(WORDS))
    written[".".join(steps)] = written.pop(name)


def reshaped(written: StateDict, name: str, pick: random.Random) -> None:
    written[name] = torch.ones([pick.choice(SIZES) for _ in range(pick.randrange(6))])


def reshaped_everywhere(written: StateDict, name: str, pick: random.Random) -> None:
    shape = [pick.choice(SIZES) for _ in range(pick.randrange(5))]
    for other in [other for other in written if other.split(".")[-2:] == name.split(".")[-2:]]:
        written[other] = torch.ones(shape)


def retyped(written: StateDict, name: str, pick: random.Random) -> None:
    dtypes = (torch.float16, torch.float64, torch.int32, torch.bool, torch.complex64)
    written[name] = torch.ones(written[name].shape, dtype=pick.choice(dtypes))


def not_finite(written: StateDict, name: str, pick: random.Random) -> None:
    written[name] = torch.full(written[name].shape, pick.choice([float("nan"), float("inf")]))


Mutation = Callable[[StateDict, str, random.Random], None]
MUTATIONS: tuple[Mutation, ...] = (
    *(dropped, dropped_everywhere, renamed, renamed_everywhere, nested),
    *(reshaped, reshaped_everywhere, retyped, not_finite),
)


def outcome(path: Path, overrides: dict[str, str]) -> Checkpoint | ParaexportError:
    try:
        return load_checkpoint(path, overrides=overrides)
    except ParaexportError as error:
        return error


@settings(max_examples=150, deadline=None)
@given(cases(), st.lists(st.sampled_from(MUTATIONS), min_size=1, max_size=3), st.booleans(), st.randoms())
def test_a_changed_checkpoint_loads_right_or_is_refused_in_one_line(
    case: Case, mutations: list[Mutation], all_given: bool, pick: random.Random
) -> None:
    written = state_dict(case.names.write(random_weights(case.spec, case.seed), case.spec, case.numbering))
    for mutate in mutations:
        if written:
            mutate(written, pick.choice(list(written)), pick)
    overrides = options(case.spec) if all_given else {"heads": str(case.spec.heads)}
    with tempfile.TemporaryDirectory() as folder:
        loaded = outcome(saved(Path(folder) / "model.pt", written), overrides)
    if isinstance(loaded, ParaexportError):
        assert "\n" not in str(loaded)
        assert loaded.exit_code == 2
        return
    assert loaded.spec is not None
    images = np.ones((2, loaded.spec.channels, *loaded.spec.image_size), np.float32)
    weights = {name: tensor.numpy() for name, tensor in loaded.module.state_dict().items()}
    expected = reference.logits(weights, loaded.spec, images)
    with torch.no_grad():
        logits = loaded.module.double()(torch.from_numpy(images).double()).numpy()
    assert np.abs(logits - expected).max() <= 1e-9 * max(np.abs(expected).max(), 1.0)
