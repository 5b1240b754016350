"""`--rename`: words in names of tensors are replaced, and mistakes are named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import paraexport
from paraexport.checkpoint.load import load_checkpoint
from paraexport.checkpoint.renames import rename_one
from paraexport.errors import SpecError
from paraexport.pipeline.validate import validate
from tests.conftest import DIGITS

RENAMES = {"trunk*": "limbs.*", "limbs": "branches", "attn.q": "attention.query"}
"""In an order that is not that of the alphabet: the second renames what the first has written."""


@pytest.fixture
def renamed(tmp_path: Path) -> Path:
    """The digits model under names that no convention has."""
    content = torch.load(DIGITS, weights_only=True)
    content["state_dict"] = {
        re.sub(r"branches\.(\d)", r"trunk\1", name).replace("attention.query", "attn.q"): tensor
        for name, tensor in content["state_dict"].items()
    }
    torch.save(content, tmp_path / "renamed.pt")
    return tmp_path / "renamed.pt"


def test_same_model(renamed: Path) -> None:
    mine = load_checkpoint(renamed, rename=RENAMES).module.state_dict()
    original = load_checkpoint(DIGITS).module.state_dict()
    assert list(mine) == list(original)
    assert all(torch.equal(mine[name], original[name]) for name in original)


def test_bundle_remembers(renamed: Path, tmp_path: Path) -> None:
    built = paraexport.build(renamed, tmp_path / "m.bundle", rename=RENAMES)
    assert built.manifest.source.renames == tuple(RENAMES.items())
    assert validate(built.path, renamed)
    with pytest.raises(SpecError, match="--rename limbs=branches: no name of a tensor contains these words"):
        paraexport.build(renamed, built.path, rename=dict(reversed(RENAMES.items())))
    images = np.random.default_rng(0).standard_normal((3, 1, 32, 32), np.float32)
    with torch.no_grad():
        expected = load_checkpoint(DIGITS).module(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(paraexport.load(built.path)(images), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("towers", "branches", "no name of a tensor contains these words"),
        ("trunk", "branches", "no name of a tensor contains these words"),  # a part of a word without *
        ("attn.q", "attention.key", "trunk0.layers.0.attention.key.weight both become"),
        ("trunk*", "branches", "each \\* of the old name needs one in the new name"),
        ("trunk.", "branches", "a word of a name is empty"),
        ("****************k*", "*****************", "a word has more than one"),
    ],
)
def test_mistakes(renamed: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load_checkpoint(renamed, rename={old: new})
    assert f"--rename {old}={new}" in str(caught.value)


def test_module_function(renamed: Path, tmp_path: Path) -> None:
    function = tmp_path / "mine.py"
    function.write_text(
        "import torch, paraexport\n"
        f"def make():\n    spec = torch.load({str(DIGITS)!r}, weights_only=True)['spec']\n"
        "    from paraexport.checkpoint.load import load_checkpoint\n"
        f"    model = load_checkpoint(__import__('pathlib').Path({str(DIGITS)!r})).module\n"
        "    for value in model.parameters(): value.data.zero_()\n    return model\n"
        "def read(path):\n    return make()\n"
    )
    loaded = load_checkpoint(renamed, module=f"{function}:make", rename=RENAMES)
    assert loaded.module.state_dict()["branches.0.layers.0.attention.query.weight"].abs().sum() > 0
    with pytest.raises(paraexport.errors.InputError, match="nothing to rename"):
        load_checkpoint(renamed, module=f"{function}:read", rename=RENAMES)


WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=5).map(".".join)


@given(names=st.lists(WORDS, unique=True, min_size=1), old=WORDS)
def test_only_whole_words(names: list[str], old: str) -> None:
    tensors = {name: torch.tensor(place) for place, name in enumerate(names)}
    inside = [f".{old}." in f".{name}." for name in names]
    if not any(inside):
        with pytest.raises(SpecError):
            rename_one(tensors, old, "new")
        return
    try:
        result = rename_one(tensors, old, "new")
    except SpecError:
        return
    assert list(result.values()) == list(tensors.values())
    for name, new, changed in zip(names, result, inside, strict=True):
        assert (new != name) == changed
        assert f".{old}." not in f".{new}." or changed
