"""Files of words: regular, small, UTF-8, JSON that says one thing. Words inside pickles may be anything."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from paraexport.checkpoint.config_files import MOST_BYTES
from paraexport.checkpoint.load import Checkpoint, load_checkpoint
from paraexport.checkpoint.native import save_checkpoint
from paraexport.errors import InputError
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing
from tests.checkpoint.test_conventions import usual_spec
from tests.checkpoint.writers import NATIVE, TIMM, random_weights, saved, state_dict

SPEC = usual_spec(TIMM)
WORDS = {"heads": "2"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path / "model.pt", state_dict(TIMM.write(random_weights(SPEC), SPEC)))


def refused(path: Path, **overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, overrides=WORDS | overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "labels.txt"])
@pytest.mark.parametrize(
    ("kind", "message"),
    [("fifo", "not a file"), ("device", "not a file"), ("large", "too large (expected at most 16 MiB")],
)
def test_no_file_of_words_hangs_or_fills_the_memory(name: str, kind: str, message: str, path: Path) -> None:
    file = path.parent / name
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    else:
        with file.open("wb") as stream:
            stream.truncate(MOST_BYTES + 1)
    options = {"labels": str(file)} if name == "labels.txt" else {}
    assert message in refused(path, **options).replace("; got", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"num_heads": 2, "num_heads": 4}', "the key 'num_heads' occurs twice"),
        (b'{"a": "\\ud800"}', "half a surrogate pair"),
        ('{"a": "é"}'.encode("latin-1"), "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b'{"a": ' + b"[" * 200 + b"]" * 200 + b"}", "more than 100 levels"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "no JSON"),
        (b"", "no JSON"),
        (b"3", "no JSON object"),
    ],
)
def test_a_config_that_is_ambiguous_or_damaged_is_refused(content: bytes, message: str, path: Path) -> None:
    (path.parent / "config.json").write_bytes(content)
    assert message in refused(path)


def test_a_byte_order_mark_is_no_obstacle(path: Path) -> None:
    (path.parent / "config.json").write_bytes(
        b"\xef\xbb\xbf" + json.dumps({"architecture": "x", "num_heads": 4}).encode()
    )
    loaded = load_checkpoint(path)
    assert loaded.spec is not None
    assert loaded.spec.heads == 4


@pytest.mark.parametrize(
    "content", ["cat\ndog\x00\neel", '["cat", "dog\\n", "eel"]', '["cat", "\\ud800", "eel"]', '{"0": "a", "00": "b"}']
)
def test_labels_that_no_file_could_list_are_refused(content: str, path: Path) -> None:
    (labels := path.parent / "labels").write_text(content)
    assert "--spec labels=" in refused(path, labels=str(labels))


def inside(folder: Path, **words: Any) -> Checkpoint:
    content = {"model": state_dict(TIMM.write(random_weights(SPEC), SPEC)), **words}
    return load_checkpoint(saved(folder / "inside.pt", content), overrides=WORDS)


def test_a_config_that_holds_itself_is_read_once(tmp_path: Path) -> None:
    args: dict[str, Any] = {"eps": 1e-3}
    args["model"] = args
    loaded = inside(tmp_path, args=args)
    assert loaded.spec is not None
    assert loaded.spec.eps == 1e-3


def test_numbers_of_numpy_and_torch_are_numbers(tmp_path: Path) -> None:
    args = argparse.Namespace(mean=np.float64(0.25), std=torch.tensor([0.5, 0.25, 0.125]), eps=np.float32(0.5))
    loaded = inside(tmp_path, args=args)
    assert (loaded.preprocessing.mean, loaded.preprocessing.std) == ((0.25,) * 3, (0.5, 0.25, 0.125))
    assert loaded.spec is not None
    assert loaded.spec.eps == 0.5


ODD = (
    *(10**5000, [10**5000], float("nan"), float("inf"), torch.zeros(3, 3)),
    *({1: 2}, b"bytes", "\ud800", None, {1, 2}),
)
NAMES = ("eps", "heads", "mean", "size", "resize", "labels", "activation", "depth", "crop_pct", "sharpen", "do_resize")


@pytest.mark.parametrize("value", ODD, ids=range(len(ODD)))
def test_any_value_that_a_pickle_holds_is_read_or_refused_in_one_line(value: Any, tmp_path: Path) -> None:
    for name in NAMES:
        try:
            loaded = inside(tmp_path, args={name: value})
        except InputError as error:
            lines = [str(error)]
        else:
            lines = [item.reason for item in loaded.assumptions]
        assert not any("\n" in line for line in lines)


def test_a_record_of_our_own_wins_over_a_config_beside_it_and_says_so(tmp_path: Path) -> None:
    spec = usual_spec(NATIVE)
    images = Preprocessing(image_size=(8, 8), channels=3, resize=9, mean=(0.5,) * 3, std=(0.2,) * 3)
    save_checkpoint(tmp_path / "own.pt", ParaFormer(spec), images, tuple("abcde"))
    (tmp_path / "config.json").write_text('{"size": 16, "heads": 4}')
    loaded = load_checkpoint(tmp_path / "own.pt")
    assert (loaded.spec, loaded.preprocessing) == (spec, images)
    assert "config.json" in next(item.reason for item in loaded.assumptions)
