"""Words of other tools get the name that they have here, and shells get completions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("build", "x.pt", "--heads", "4"), "write --spec heads=VALUE"),
        (("build", "x.pt", "--num-heads", "4"), "write --spec heads=VALUE"),
        (("build", "x.pt", "--int8"), "write --precision int8 --calib IMAGES"),
        (("build", "x.pt", "--half"), "write --precision fp16"),
        (("build", "x.pt", "--imgsz", "224"), "write --spec image_size=VALUE"),
        (("build", "x.pt", "--device", "cpu"), "write --target NAME"),
        (("build", "x.pt", "--format=onnx"), "write --target NAME"),
        (("build", "x.pt", "--batch-size", "4"), "write --max-batch N"),
        (("build", "x.pt", "--target", "cpu"), "write --target onnxruntime;"),
        (("build", "x.pt", "--target", "CUDA"), "write --target onnxruntime-cuda or tensorrt"),
        (("build", "x.pt", "--target", "trt"), "write --target tensorrt;"),
        (("build", "x.pt", "--precision", "half"), "write --precision fp16"),
        (("build", "x.pt", "--preision", "int8"), "'--precision'"),
        (("bulid", "x.pt"), "No such command 'bulid'; write paraexport build"),
        (("export", "x.pt"), "write paraexport build"),
        (("infer", "x.bundle"), "write paraexport predict"),
        (("optimise", "x.onnx"), "write paraexport optimize"),
        (("zzz",), "No such command 'zzz'; see"),
    ],
)
def test_a_habit_gets_a_hint(words: tuple[str, ...], hint: str, run: Run) -> None:
    done = run(*words)
    assert done.code == 2
    assert hint in done.err.splitlines()[-1]


def test_names_of_precisions_may_be_written_large(run: Run, tmp_path: Path) -> None:
    done = run("build", tmp_path / "x.pt", "--precision", "FP16")
    assert "x.pt: no checkpoint" in done.err


@pytest.mark.parametrize(
    ("shell", "typed", "expected"),
    [("bash", "bu", "plain,build"), ("bash", "build --pre", "plain,--precision"), ("zsh", "va", "validate"),
     ("fish", "insp", "inspect")],
)  # fmt: skip
def test_shells_complete_commands_and_options(shell: str, typed: str, expected: str) -> None:
    words = f"paraexport {typed}"
    environment = {
        **os.environ, "_PARAEXPORT_COMPLETE": f"{shell}_complete", "COMP_WORDS": words,
        "COMP_CWORD": typed.rsplit(maxsplit=1)[-1] if shell == "fish" else str(len(words.split()) - 1),
    }  # fmt: skip
    command = [sys.executable, "-c", "import sys; from paraexport.cli import main; sys.exit(main())"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert expected in done.stdout, done.stderr
    source = {**os.environ, "_PARAEXPORT_COMPLETE": f"{shell}_source"}
    script = subprocess.run(command, capture_output=True, text=True, check=False, env=source).stdout
    assert "paraexport" in script
