"""`validate` passes for a bundle as it was built, and fails for one whose model or checkpoint is another."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from paraexport.bundle import Bundle, write_manifest
from paraexport.findings.checks import Check
from paraexport.pipeline.validate import Validation
from tests.cli.conftest import Run
from tests.conftest import DIGITS, TEST_IMAGES


def verdicts(out: str) -> dict[str, str]:
    return {line.split()[0]: line.split()[1] for line in out.splitlines() if line[:1].islower()}


def test_a_bundle_answers_as_its_golden_logits(run: Run, digits: Bundle) -> None:
    done = run("validate", digits.path)
    assert done.code == 0
    assert verdicts(done.out)["parity"] == "passed"
    answer = run("validate", digits.path, "--json", "-q")
    assert answer.err == ""
    assert (answer.json["passed"], answer.json["against"]) == (True, "golden inputs")
    assert {check["name"]: check["samples"] for check in answer.json["checks"]}["parity"] == 16 + 8


def test_with_the_checkpoint_and_data_accuracy_is_checked_too(run: Run, digits: Bundle) -> None:
    done = run("validate", digits.path, DIGITS, "--data", TEST_IMAGES)
    assert done.code == 0, done.err
    assert verdicts(done.out)["accuracy_drop"] == "passed"


def test_another_model_in_the_bundle_fails(run: Run, small_bundle: Bundle, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.bundle"
    wrong.mkdir()
    for file in small_bundle.path.iterdir():
        (wrong / file.name).write_bytes(file.read_bytes())
    model = onnx.load(wrong / "model.onnx")
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "head/weight")
    weight.raw_data = np.frombuffer(weight.raw_data, np.float32)[::-1].tobytes()
    onnx.save(model, wrong / "model.onnx")
    write_manifest(wrong, small_bundle.manifest)
    done = run("validate", wrong)
    assert done.code == 1
    assert verdicts(done.out)["parity"] == "FAILED"
    assert done.err.splitlines()[-1].startswith("error: check failed: parity")
    answer = run("validate", wrong, "--json")
    assert (answer.code, answer.json["exit_code"], answer.json["error"]["kind"]) == (1, 1, "CheckFailed")
    assert {check["name"]: check["passed"] for check in answer.json["checks"]}["parity"] is False


def test_a_limit_can_be_moved_and_the_table_says_so(run: Run, digits: Bundle) -> None:
    done = run("validate", digits.path, "--limit", "parity=0.5")
    assert done.code == 0
    assert "moved from 1e-05" in done.out
    assert run("validate", digits.path, "--limit", "parity=0").code == 1
    unknown = run("validate", digits.path, "--limit", "prity=1")
    assert unknown.code == 2
    assert "prity" in unknown.err


def test_a_bundle_for_which_nothing_ran_has_not_passed(
    run: Run, digits: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = Check("preprocessing", 0.0, 0.0, "levels", 8, True, "")
    monkeypatch.setattr("paraexport.pipeline.validate.run", lambda *_, **__: Validation((pixels,), None))
    done = run("validate", digits.path)
    assert done.code == 1
    assert "nothing was checked" in done.err


def test_no_bundle_is_bad_input(run: Run, tmp_path: Path) -> None:
    done = run("validate", tmp_path)
    assert done.code == 2
    assert "not a bundle" in done.err
