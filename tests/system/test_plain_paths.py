"""Names that are no UTF-8, through every library that reads or writes files by their path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import safetensors.numpy
import torch
from safetensors.torch import save_file

import paraexport
from paraexport.bundle import Bundle
from paraexport.checkpoint.files import read_safetensors
from paraexport.optimizer.rewriting import optimize
from paraexport.pipeline.validate import validate
from paraexport.system.plain_paths import plain, readable

LATIN = os.fsdecode(b"b\xe4r\xff")
"""`bär` and one byte more, in Latin-1."""


def test_text_stays_as_it_is(tmp_path: Path) -> None:
    for name in ("a", "bär 漢字", "a\nb", "-x"):
        assert plain(tmp_path / name) == tmp_path / name
    assert plain(Path("rel/a")) == Path("rel/a")
    assert plain(tmp_path / LATIN) == tmp_path / LATIN  # nothing there: the error names what was given


def test_a_link_leads_to_the_same_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / LATIN).mkdir()
    file = tmp_path / LATIN / f"{LATIN}.onnx"
    file.write_bytes(b"x")
    for path in (file, file.parent):
        link = plain(path)
        assert str(link).encode()
        assert link.samefile(path)
        assert plain(path) == link
    assert plain(file).suffix == ".onnx"
    (tmp_path / LATIN / "a.txt").write_bytes(b"")
    assert plain(tmp_path / LATIN / "a.txt").name == "a.txt"


def test_links_are_gone_when_the_process_ends(tmp_path: Path) -> None:
    (tmp_path / LATIN).mkdir()
    code = "import os, sys; from pathlib import Path; from paraexport.system.plain_paths import plain\n"
    code += "print(plain(Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, tmp_path / LATIN], capture_output=True, text=True, check=True)
    assert not Path(done.stdout.strip()).parent.exists()
    assert (tmp_path / LATIN).is_dir()


def test_text_for_json_keeps_what_it_can() -> None:
    assert readable(f"ä {LATIN}").encode() == "ä b\\udce4r\\udcff".encode()


def test_the_libraries_take_the_link_alone(tmp_path: Path, small_bundle: Bundle) -> None:
    """Should one of them learn such names, or refuse the link, this tells."""
    (tmp_path / LATIN).mkdir()
    model = tmp_path / LATIN / "model.onnx"
    model.write_bytes((small_bundle.path / "model.onnx").read_bytes())
    save_file({}, plain(model).with_name("a.safetensors"))
    calls = (
        lambda path: onnx.checker.check_model(path, full_check=True),
        lambda path: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]),
        lambda path: openvino.Core().read_model(path),
        lambda path: safetensors.safe_open(path.with_name("a.safetensors"), framework="np"),
    )
    refused = 0
    for call in calls:
        call(plain(model))
        try:
            call(model)
        except (TypeError, ValueError, RuntimeError):
            refused += 1
    assert refused > 0


def test_a_build_whose_every_name_is_no_text(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / LATIN
    work.mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))  # of processes that this one starts
    checkpoint, images = work / f"{LATIN}.pt", work / f"{LATIN}.npz"
    checkpoint.write_bytes(small.read_bytes())
    (work / f"{LATIN}.txt").write_text("a\nb\nc\nd\ne\n")
    random = np.random.default_rng(0)
    np.savez(images, images=random.integers(0, 256, (9, 8, 12, 1), np.uint8), labels=np.arange(9) % 5)
    options = {"data": images, "spec": {"labels": str(work / f"{LATIN}.txt")}, "limits": {"accuracy_drop": 100}}
    bundle = paraexport.build(checkpoint, work / f"{LATIN}.bundle", **options)  # type: ignore[arg-type]
    assert bundle.manifest.source.name == "b\\udce4r\\udcff.pt"
    assert all(check.passed in (True, None) for check in validate(bundle.path, checkpoint, data=images))
    golden = safetensors.numpy.load((bundle.path / "golden.safetensors").read_bytes())
    np.testing.assert_allclose(paraexport.load(bundle.path)(golden["images"]), golden["logits"], atol=1e-5)
    assert optimize(bundle.path / "model.onnx", work / f"{LATIN}.onnx", layout="stacked").changed
    assert onnx.load(work / f"{LATIN}.onnx").graph.node
    assert sorted(path.name for path in work.iterdir() if path.name.startswith(".")) == []
    assert [*tmp_path.joinpath("temporary").glob("paraexport-*")] == []


def test_safetensors_checkpoints(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3)}
    save_file(tensors, tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").rename(tmp_path / f"{LATIN}.safetensors")
    torch.testing.assert_close(read_safetensors(tmp_path / f"{LATIN}.safetensors"), tensors)
