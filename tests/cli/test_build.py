"""What `build` prints for people and for programs; the pipeline itself has tests of its own."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from paraexport.bundle import Bundle, read_bundle
from paraexport.engine import Engine
from paraexport.findings.graphs import CandidateTimes
from paraexport.pipeline import candidate_times
from tests.cli.conftest import Run
from tests.conftest import DIGITS, TEST_IMAGES


def test_a_build_tells_what_it_made_and_what_to_do_next(run: Run, small: Path, tmp_path: Path) -> None:
    output = tmp_path / "my bundle"
    done = run("build", small, "-o", output, "--max-batch", 5)
    assert done.code == 0, done.err
    assert done.out.startswith(f"built {output}, ")
    assert "3 branches of 2 layers: dim 16, 2 heads of 8, MLP 32, residual normalized" in done.out
    assert "batches up to 5" in done.out
    assert "Checks on 32 made-up images" in done.out
    assert "warning: the checks ran on made-up images" in done.err
    rows = {line.split()[0]: line for line in done.out.splitlines() if line}
    assert " passed " in rows["parity"]
    assert rows["parity"].split()[-1] == "32"
    assert " not run " in rows["accuracy_drop"]
    assert "no labelled images" in rows["accuracy_drop"]
    assert f"next: paraexport predict '{output}' IMAGE" in done.out
    stages = [line for line in done.err.splitlines() if line.endswith("...")]
    assert stages == [
        "checkpoint...",
        "images...",
        "PyTorch...",
        "trace...",
        "rewrite...",
        "golden...",
        "checks...",
        "report...",
        "bundle...",
    ]


def test_json_is_one_object_and_quiet_leaves_only_warnings(run: Run, small: Path, tmp_path: Path) -> None:
    done = run("build", small, "-o", tmp_path / "a.bundle", "--branches", 2, "--json", "-q")
    assert done.code == 0
    assert [line.partition(":")[0] for line in done.err.splitlines()] == ["warning"]
    told = done.json
    assert (told["reused"], told["made_up"], told["spec"]["branches"]) == (False, True, 2)
    assert told["size_bytes"] == sum(file.stat().st_size for file in (tmp_path / "a.bundle").iterdir())
    assert {check["name"]: check["passed"] for check in told["checks"]}["parity"] is True
    assert sum(told["stages_s"].values()) > 0
    assert read_bundle(tmp_path / "a.bundle").manifest.key == told["key"]


def test_real_images_are_named_and_those_that_cannot_be_read_too(run: Run, small: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 12), np.uint8)).save(photos / name)
    (photos / "c.png").write_bytes(b"junk")
    done = run("build", small, "-o", tmp_path / "a.bundle", "--calib", photos)
    assert done.code == 0, done.err
    assert f"Checks on 2 images from {photos.name}" in done.out
    assert "made-up" not in done.err
    assert "warning: skipped c.png: not an image" in done.err


def test_nothing_new_is_reused_without_torch(digits: Bundle) -> None:
    program = (
        "import sys; from paraexport.cli import main; code = main(); assert 'torch' not in sys.modules; sys.exit(code)"
    )
    command = [sys.executable, "-c", program, "build", str(DIGITS), "-o", str(digits.path), "--data", str(TEST_IMAGES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"unchanged: reused {digits.path}, ")
    assert "passed" in done.stdout
    told = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(told.stdout)["reused"] is True


def test_another_bundle_is_not_replaced_unless_forced(run: Run, small: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.bundle"
    assert run("build", small, "-o", output, "-q").code == 0
    refused = run("build", small, "-o", output, "--max-batch", 3)
    assert refused.code == 2
    assert "--force" in refused.err
    assert run("build", small, "-o", output, "--max-batch", 3, "--force").code == 0
    assert read_bundle(output).manifest.max_batch == 3


def test_what_was_assumed_is_said_aloud_with_the_option_that_settles_it(run: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "linear.pt"
    torch.save({"1.weight": torch.randn(3, 12), "1.bias": torch.zeros(3)}, checkpoint)
    module = tmp_path / "mine.py"
    module.write_text(
        "import torch\nprint('noise')\n"
        "def make():\n    print('noise')\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))\n"
    )
    given = ("--module", f"{module}:make", "--spec", "image_size=2", "--spec", "channels=3", "--spec", "std=0.2")
    done = run("build", checkpoint, "-o", tmp_path / "a.bundle", *given, "--json")
    assert done.code == 0, done.err
    assert done.json["spec"] is None  # what the module prints is not on stdout
    assert done.err.count("noise\n") == 2
    (line,) = (line for line in done.err.splitlines() if "check the transforms of your training" in line)
    assert line.startswith("warning: assumed resize = 2x2, interpolation = bilinear, mean = 0.5: ")
    assert "to set a field, give --spec FIELD=VALUE" in done.err


def test_a_failed_check_shows_the_table_and_leaves_no_bundle(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = Engine.__call__
    monkeypatch.setattr(Engine, "__call__", lambda engine, images: right(engine, images) * np.float32(1.01))
    output = tmp_path / "out" / "a.bundle"
    done = run("build", small, "-o", output)
    assert done.code == 1
    assert any(line.split()[:2] == ["parity", "FAILED"] for line in done.out.splitlines())
    assert done.err.splitlines()[-1].startswith("error: check failed: parity is 0.0")
    told = run("build", small, "-o", output, "--json")
    assert (told.code, told.json["error"]["kind"]) == (1, "CheckFailed")
    assert {check["name"]: check["passed"] for check in told.json["checks"]}["parity"] is False
    assert not output.parent.exists()


def test_an_answer_that_is_not_finite_is_null_in_json(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "__call__", lambda _, images: np.full((len(images), 5), np.inf, np.float32))
    done = run("build", small, "-o", tmp_path / "a.bundle", "--json")
    assert done.code == 1
    assert {check["name"]: check["value"] for check in done.json["checks"]}["parity"] is None


def test_what_auto_chose_from_is_shown_at_once_and_later(
    run: Run, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def figures(candidates: Sequence[tuple[str, str, Path]], *_: object) -> tuple[CandidateTimes, ...]:
        assert [layout for _, layout, _ in candidates] == ["branches", "folded", "stacked"]
        return (
            CandidateTimes("onnxruntime", "branches", {"1": 2.0, "8": 9.0}, chosen=False),
            CandidateTimes("onnxruntime", "folded", {"1": 1.25, "8": 7.5}, chosen=True),
            CandidateTimes("onnxruntime", "stacked", {}, chosen=False, failure="no such operator"),
        )

    monkeypatch.setattr(candidate_times, "time_candidates", figures)
    output = tmp_path / "a.bundle"
    built = run("build", small, "-o", output, "--layout", "auto")
    assert "timing..." in built.err
    assert "onnxruntime fp32, layout folded" in built.out
    for shown in (built, run("inspect", output)):
        rows = [line.split() for line in shown.out.splitlines()]
        assert ["onnxruntime", "folded", "1.25", "7.5", "chosen"] in rows
        assert ["onnxruntime", "stacked", "-", "-", "no", "such", "operator"] in rows
    told = run("build", small, "-o", output, "--layout", "auto", "--json").json
    assert told["reused"] is True
    assert [one["chosen"] for one in told["candidates"]] == [False, True, False]
    assert "no such operator" in (output / "report.html").read_text()


ODD = """
import torch
from torch import nn

class Odd(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(12, eps=eps), nn.Linear(12, 16), nn.GELU(), nn.Linear(16, 12))
            for eps in (1e-5, 1e-5, 1e-3)
        )
        self.head = nn.Linear(12, 4)

    def forward(self, images):
        tokens = images.flatten(1, 2)
        first, second, third = (branch(tokens) for branch in self.branches)
        return self.head((first + second + third).mean(1))

def make(path):
    torch.manual_seed(0)
    return Odd()
"""


def test_a_module_of_ones_own_is_told_what_does_not_apply(run: Run, small: Path, tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(ODD)
    done = run(
        "build", small, "-o", tmp_path / "a.bundle", "--module", f"{tmp_path / 'odd.py'}:make",
        "--spec", "image_size=8x12", "--spec", "channels=1", "--layout", "stacked",
    )  # fmt: skip
    assert done.code == 0, done.err
    rewritten = next(line for line in done.out.splitlines() if line.startswith("applied: "))
    assert "stack 1×" in rewritten
    table = done.out.partition("not rewritten:")[2]
    assert any(line.startswith("stack ") and "epsilon" in line for line in table.splitlines())
