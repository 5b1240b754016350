"""Weights in several files: an index that names them, or a folder with one; and those that must be converted first."""

from __future__ import annotations

import json
import os
import runpy
import shlex
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
from torch.distributed.checkpoint.format_utils import torch_save_to_dcp

from paraexport.checkpoint import shards
from paraexport.checkpoint.load import load_checkpoint
from paraexport.errors import CheckpointError
from paraexport.pipeline import cache
from tests.checkpoint.test_wrappers import WEIGHTS, answers_as, released
from tests.checkpoint.writers import saved

FIRST, SECOND = "model-00001-of-00002", "model-00002-of-00002"
INDEXES = {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}


def sharded(folder: Path, suffix: str = "safetensors", legacy: bool = False) -> Path:
    """A folder with two shards and the index of Hugging Face; returns the index."""
    folder.mkdir(exist_ok=True)
    held = released()
    halves = [dict(list(held.items())[::2]), dict(list(held.items())[1::2])]
    listed: dict[str, str] = {}
    for name, half in zip((FIRST, SECOND), halves, strict=True):
        file = folder / f"{name}.{suffix}"
        if suffix == "bin":
            saved(file, half, legacy=legacy)
        else:
            safetensors.torch.save_file(half, file, {"format": "pt"})
        listed |= dict.fromkeys(half, file.name)
    index = folder / INDEXES[suffix]
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    return index


@pytest.mark.parametrize("whole_folder", [True, False])
@pytest.mark.parametrize(("suffix", "legacy"), [("safetensors", False), ("bin", False), ("bin", True)])
def test_shards_are_read_by_their_index_or_their_folder(
    suffix: str, legacy: bool, whole_folder: bool, tmp_path: Path
) -> None:
    index = sharded(tmp_path / "vit", suffix, legacy)
    (index.parent / "config.json").write_text('{"global_pool": "avg", "image_mean": [0.1, 0.2, 0.3]}')
    loaded = load_checkpoint(index.parent if whole_folder else index, overrides={"pool": "cls"})
    assert answers_as(loaded, WEIGHTS)
    assert loaded.preprocessing.mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_with_one_file_of_weights(name: str, tmp_path: Path) -> None:
    if name.endswith("bin"):
        saved(tmp_path / name, released())
    else:
        safetensors.torch.save_file(released(), tmp_path / name)
    assert answers_as(load_checkpoint(tmp_path), WEIGHTS)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path.parent) in message
    return message


def changed(index: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))
    return index


def test_missing_shards_are_named(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / f"{SECOND}.safetensors").unlink()
    assert f"1 of 2 shards are missing: {SECOND}.safetensors" in refused(index)


@pytest.mark.parametrize(
    "file", ["../other/model.safetensors", "/etc/passwd", "a/../../b", "C:\\a", "..\\a", "a\nb", ""]
)
def test_a_shard_outside_the_folder_is_not_opened(file: str, tmp_path: Path) -> None:
    index = changed(sharded(tmp_path), lambda content: content["weight_map"].update(x=file))
    assert "names files outside its folder" in refused(index)


def test_a_shard_that_is_a_link_is_read_as_in_the_cache_of_hugging_face(tmp_path: Path) -> None:
    index = sharded(tmp_path / "snapshot")
    blob = tmp_path / "blob"
    (index.parent / f"{FIRST}.safetensors").rename(blob)
    (index.parent / f"{FIRST}.safetensors").symlink_to(blob)
    assert answers_as(load_checkpoint(index), WEIGHTS)


def test_a_shard_that_is_no_file_is_missing(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    (tmp_path / f"{FIRST}.safetensors").unlink()
    os.mkfifo(tmp_path / f"{FIRST}.safetensors")
    assert "1 of 2 shards are missing" in refused(index)


def test_a_name_that_is_not_in_its_shard(tmp_path: Path) -> None:
    index = changed(
        sharded(tmp_path), lambda content: content["weight_map"].update({"more.weight": f"{FIRST}.safetensors"})
    )
    assert f"'more.weight' is not in {FIRST}.safetensors" in refused(index)


def test_a_name_that_two_shards_hold(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    second = safetensors.torch.load_file(tmp_path / f"{SECOND}.safetensors")
    twice = next(iter(safetensors.torch.load_file(tmp_path / f"{FIRST}.safetensors").items()))
    safetensors.torch.save_file({**second, twice[0]: twice[1]}, tmp_path / f"{SECOND}.safetensors")
    assert f"'{twice[0]}' is in {SECOND}.safetensors, but the index does not list it there" in refused(index)


def test_a_name_that_is_twice_in_the_index(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    index.write_text(index.read_text().replace('"weight_map": {', '"weight_map": {"cls_token": "a", "cls_token": "b",'))
    assert "the key 'cls_token' occurs twice" in refused(index)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"weight_map": {}}', '{"weight_map": {"a": 3}}', "\xff", "[" * 9**5]
)
def test_an_index_that_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / INDEXES["bin"]).write_bytes(text.encode("latin-1"))
    message = refused(tmp_path / INDEXES["bin"])
    assert "the index is damaged" in message or "the index lists no weights" in message


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    index = sharded(tmp_path, "bin")
    damaged = tmp_path / f"{FIRST}.bin"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    assert f"{damaged}: the file is truncated or damaged" in refused(index)


def test_the_key_of_a_build_and_the_digest_cover_every_shard(tmp_path: Path) -> None:
    index = sharded(tmp_path)
    before = cache.build_key(index, {}, {}), shards.checkpoint_digest(index)
    last = tmp_path / f"{SECOND}.safetensors"
    data = bytearray(last.read_bytes())
    data[-1] ^= 1
    last.write_bytes(data)
    after = cache.build_key(index, {}, {}), shards.checkpoint_digest(index)
    assert before[0] != after[0]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("vit.pt", "vit.bundle"),
        ("a/vit.v2.safetensors", "vit.v2.bundle"),
        ("a/model.safetensors.index.json", "model.bundle"),
        ("vit-base", "vit-base.bundle"),
    ],
)
def test_the_bundle_is_named_after_what_was_given(given: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / given
    path.mkdir(parents=True) if "." not in given else None
    assert shards.bundle_name(path) == name


def test_a_distributed_checkpoint_is_refused_with_the_command_that_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "step 100"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch_save_to_dcp(saved(tmp_path / "whole.pt", released()), folder)
    parts = sorted(folder.glob("*.distcp"))
    assert parts
    for path in (folder, parts[0], folder / ".metadata"):
        with pytest.raises(CheckpointError, match=r"in several files") as caught:
            load_checkpoint(path)
        assert caught.value.remedy is not None
        command = caught.value.remedy.partition(": ")[2]
        assert command == (f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch '{folder}' 'step 100.pt'")
    _, _, module, *arguments = shlex.split(command)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        runpy.run_module(module, run_name="__main__")
    assert answers_as(load_checkpoint(tmp_path / "step 100.pt"), WEIGHTS)
