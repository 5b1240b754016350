"""Bundles run where only `paraexport[cpu]` is installed: no torch, no onnx."""

import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import paraexport
from paraexport.bundle import Bundle
from paraexport.checks.golden import read
from tests.conftest import TEST_IMAGES
from tests.remedies import pip_install


def closure(requirement: str) -> set[str]:
    """The names of all distributions that pip would install for `requirement`."""
    found: set[str] = set()
    pending = [Requirement(requirement)]
    while pending:
        wanted = pending.pop()
        extras = wanted.extras or {""}
        name = canonicalize_name(wanted.name)
        if f"{name}{sorted(extras)}" in found:
            continue
        found |= {name, f"{name}{sorted(extras)}"}
        for line in importlib.metadata.requires(wanted.name) or ():
            inner = Requirement(line)
            if inner.marker is None or any(inner.marker.evaluate({"extra": extra}) for extra in extras):
                pending.append(inner)
    return {name for name in found if "[" not in name}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to what `pip install 'paraexport[cpu]'` installs, and nothing else."""
    folder = tmp_path_factory.mktemp("site-packages")
    for name in closure("paraexport[cpu]"):
        distribution = importlib.metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
        for top in (top for top in tops if not top.startswith("__editable__")):
            target = Path(str(distribution.locate_file(top)))
            if target.exists() and not (folder / top).exists():
                (folder / top).symlink_to(target)
    if not (folder / "paraexport").exists():  # installed in place
        (folder / "paraexport").symlink_to(Path(paraexport.__file__).parent)
    return folder


def run(bare: Path, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.insert(0, {str(bare)!r})\n{code}"
    command = [sys.executable, "-I", "-S", "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


CLI = "from paraexport.cli import main; sys.exit(main())"


def test_there_is_neither_torch_nor_onnx(bare: Path) -> None:
    for name in ("torch", "onnx"):
        assert "ModuleNotFoundError" in run(bare, f"import {name}").stderr


def test_the_engine_answers_as_the_golden_file_says(bare: Path, digits: Bundle, tmp_path: Path) -> None:
    code = (
        "import numpy, paraexport, safetensors.numpy\n"
        "images = safetensors.numpy.load_file(sys.argv[1] + '/golden.safetensors')['images']\n"
        "numpy.save(sys.argv[2], paraexport.load(sys.argv[1])(images))\n"
    )
    done = run(bare, code, digits.path, tmp_path / "logits.npy")
    assert done.returncode == 0, done.stderr
    _, expected = read(digits.files)
    got = np.load(tmp_path / "logits.npy")
    assert np.abs(got - expected[: len(got)]).max() <= 1e-5 * np.abs(expected).max()


def test_predict_labels_an_image_file(bare: Path, digits: Bundle) -> None:
    image = min((TEST_IMAGES / "7").glob("*.png"))
    done = run(bare, CLI, "predict", digits.path, image, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["predictions"][0]["label"] == "7"


def test_validate_replays_the_golden_images(bare: Path, digits: Bundle) -> None:
    done = run(bare, CLI, "validate", digits.path)
    assert done.returncode == 0, done.stderr
    assert "parity" in done.stdout


def test_build_says_what_to_install(bare: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "a.pt"
    checkpoint.write_bytes(b"PK\x03\x04")
    done = run(bare, CLI, "build", checkpoint, "-o", tmp_path / "a.bundle")
    assert done.returncode == 3
    assert pip_install("build") in done.stderr
    assert "Traceback" not in done.stderr


def test_report_says_what_to_install(bare: Path, digits: Bundle, tmp_path: Path) -> None:
    done = run(bare, CLI, "report", digits.path, "-o", tmp_path / "a.html")
    assert done.returncode == 3
    assert pip_install("report") in done.stderr
    assert "Traceback" not in done.stderr
    assert not [*tmp_path.iterdir()]


def test_doctor_tells_what_is_missing(bare: Path) -> None:
    done = run(bare, CLI, "doctor")
    assert done.returncode == 0, done.stderr
    assert "torch>=2.13" in done.stdout
