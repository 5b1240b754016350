"""Files that are no checkpoint, are broken, or would run code: one clear line each, and nothing is run."""

from __future__ import annotations

import os
import pickle
import warnings
import zipfile
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from paraexport.checkpoint.load import load_checkpoint
from paraexport.errors import CheckpointError, ParaexportError
from tests.checkpoint.test_mutations import outcome
from tests.checkpoint.test_wrappers import released
from tests.checkpoint.writers import saved, saved_bytes


def refused(path: Path, **options: Any) -> str:
    """The one line with which the file is refused, without its path."""
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


class RunsOnLoad:
    """A pickle of this writes a file when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_not_run(legacy: bool, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    content = {"state_dict": released(), "callback": RunsOnLoad(marker)}
    assert "a pickled posix.system, which could run any code" in refused(
        saved(tmp_path / "a.pt", content, legacy=legacy)
    )
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("zipped", [False, True])
def test_code_in_a_pickle_of_another_program_is_not_run(protocol: int, zipped: bool, tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "a.pkl"
    data = pickle.dumps(RunsOnLoad(marker), protocol)
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/version", "3")
    else:
        path.write_bytes(data)
    refused(path)
    assert not marker.exists()


@pytest.mark.parametrize("builtin", [eval, exec, getattr, open])
def test_builtins_in_a_pickle_are_named(builtin: Any, tmp_path: Path) -> None:
    class Calls:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return builtin, ("1",)

    assert f"{builtin.__name__}, which could run any code" in refused(saved(tmp_path / "a.pt", {"x": Calls()}))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_module_is_told_from_its_state_dict(legacy: bool, tmp_path: Path) -> None:
    message = refused(saved(tmp_path / "a.pt", {"model": nn.Linear(2, 2)}, legacy=legacy))
    assert "a pickled nn.Module (torch.nn.modules.linear.Linear), not a state dict" in message
    assert "save model.state_dict()" in message
    assert "--module" in message


class OwnModule(nn.Module):
    pass


def test_a_module_of_ones_own_is_named(tmp_path: Path) -> None:
    message = refused(saved(tmp_path / "a.pt", OwnModule()))
    assert f"{__name__}.OwnModule" in message
    assert "save model.state_dict()" in message


def test_paths_in_the_arguments_of_a_run_are_harmless(tmp_path: Path) -> None:
    content = {"net": released(), "args": {"output": PosixPath("/runs/1")}}
    assert load_checkpoint(saved(tmp_path / "a.pt", content)).convention == "released"


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("legacy", [False, True])
def test_a_truncated_checkpoint(legacy: bool, share: float, tmp_path: Path) -> None:
    whole = saved_bytes(released(), legacy=legacy)
    path = tmp_path / "a.pt"
    path.write_bytes(whole[: int(len(whole) * share)])
    assert "the file is truncated or damaged" in refused(path)


@pytest.mark.parametrize("kept", [-1, -1000, 100])
def test_a_truncated_safetensors_file(kept: int, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save(released())[:kept])
    assert "the safetensors file is damaged" in refused(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_damaged_byte_never_ends_in_another_error(legacy: bool, tmp_path: Path) -> None:
    whole = saved_bytes({"state_dict": released()}, legacy=legacy)
    generator = np.random.default_rng(0)
    path, outcomes = tmp_path / "a.pt", []
    for _ in range(60):
        damaged = bytearray(whole)
        for place in generator.integers(0, min(len(damaged), 6000), 3):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        outcomes.append(outcome(path, {}))
    errors = [str(found) for found in outcomes if isinstance(found, ParaexportError)]
    assert errors
    assert not [error for error in errors if "\n" in error]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_an_empty_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert refused(path) == "the file is empty; copy or save it again"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "a.pt") == "no such file"


def test_a_directory(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert "the folder contains no checkpoint" in message
    assert "model.safetensors.index.json" in message
    assert "give the path of the file with the weights" in message


@pytest.mark.parametrize("content", [b"weights, honestly\n", b'{"heads": 3}', b"\x08\x0a\x12\x07pytorch"])
def test_a_file_of_another_kind_shows_its_first_bytes(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    message = refused(path)
    assert "this is no checkpoint" in message
    assert repr(content[:8]) in message


def test_a_zip_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("images/cat.png", b"")
    message = refused(tmp_path / "a.zip")
    assert "this zip archive is no checkpoint" in message
    assert "images/cat.png" in message


def test_torchscript_is_told_what_to_do_instead(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        traced = torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))  # type: ignore[no-untyped-call]
        traced.save(str(tmp_path / "a.pt"))
    message = refused(tmp_path / "a.pt")
    assert "TorchScript" in message
    assert "state_dict()" in message


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (torch.ones(3), "Tensor"),
        ([torch.ones(3)], "list"),
        ({}, "an empty dict"),
        (None, "NoneType"),
        ({0: torch.ones(2)}, "the keys 0"),
        ({"epoch": 3, "loss": 0.1}, "the keys 'epoch', 'loss'"),
        ({"optimizer": {"state": {}, "param_groups": []}}, "the keys 'optimizer'"),
    ],
)
def test_a_file_without_named_tensors(content: object, got: str, tmp_path: Path) -> None:
    message = refused(saved(tmp_path / "a.pt", content))
    assert "no named tensors" in message
    assert f"got {got})" in message


def test_wrappers_without_end(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless
    assert "no named tensors" in refused(saved(tmp_path / "a.pt", endless))


def test_a_safetensors_file_without_config_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save(released()))
    assert load_checkpoint(path).convention == "released"


@pytest.mark.parametrize("text", ["{", "[1, 2]", "3", "\xff"])
def test_a_config_beside_that_is_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save(released()))
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    message = refused(path)
    assert "config.json beside it is no JSON" in message


def test_the_bytes_decide_what_a_file_is_and_not_its_name(tmp_path: Path) -> None:
    path = tmp_path / "weights.of.a.friend"
    path.write_bytes(safetensors.torch.save(released()))
    assert load_checkpoint(path).convention == "released"
