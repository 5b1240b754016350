"""`validate` names the part that a target computes wrongly, in its line, in a table and in JSON."""

import dataclasses
import shutil
from pathlib import Path

import pytest

from paraexport.bundle import Bundle, write_manifest
from tests.checks.bisection import faulty
from tests.cli.conftest import Run

MODULE = "branches.1/layers.0/attention/value"


@pytest.fixture
def wrong(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """A bundle for a runtime that takes one weight of it for another."""
    folder = tmp_path_factory.mktemp("wrong")
    for file in small_bundle.path.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    faulty.install(monkeypatch, faulty.scaled(f"{MODULE}/weight", 1.2))
    made = faulty.on(Bundle(folder, small_bundle.manifest), faulty.NAME)
    write_manifest(folder, made.manifest)
    return made


@pytest.mark.parametrize("options", [(), ("--bisect",)], ids=["by itself", "asked for"])
def test_a_failed_check_tells_the_part(run: Run, wrong: Bundle, options: tuple[str, ...]) -> None:
    done = run("validate", wrong.path, *options)
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert line.startswith("error: check failed: parity")
    assert f"on faulty, with correct inputs, {MODULE} is off by " in line
    table = {row.split()[0]: row for row in done.out.splitlines() if row.startswith(("stem", "branches", "sum"))}
    assert " OFF" in table["branches.1"]
    assert " OFF" not in table["branches.0"]
    told = run("validate", wrong.path, *options, "--json")
    assert told.json["bisection"]["culprit"]["part"] == MODULE
    assert told.json["bisection"]["target"] == "faulty"
    assert told.json["exit_code"] == 1


def test_a_right_bundle_can_be_bisected_by_hand(run: Run, small_bundle: Bundle) -> None:
    done = run("validate", small_bundle.path, "--bisect")
    assert done.code == 0, done.err
    assert "onnxruntime gives the same results as the graph run node by node, within 1e-05" in done.out
    assert "branches.2" in done.out
    told = run("validate", small_bundle.path, "--bisect", "--json")
    assert told.json["bisection"]["culprit"] is None
    assert told.json["bisection"]["limit"] == 1e-5
    assert "bisection" not in run("validate", small_bundle.path, "--json").json


def test_a_bundle_without_checks_is_bisected_by_the_usual_limit(run: Run, small_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(small_bundle.path, tmp_path / "a.bundle")
    write_manifest(tmp_path / "a.bundle", dataclasses.replace(small_bundle.manifest, checks=()))
    assert "within 1e-05" in run("validate", tmp_path / "a.bundle", "--bisect").out


def test_without_onnx_it_says_what_it_needs(run: Run, small_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paraexport.pipeline.bisect.BISECTING", ("onnx", "no_such_library"))
    done = run("validate", small_bundle.path, "--bisect")
    assert done.code == 3
    assert "--bisect needs no_such_library" in done.err


def test_without_onnx_a_failed_check_asks_for_the_checkpoint_as_before(
    run: Run, wrong: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paraexport.pipeline.validate.BISECTING", ("no_such_library",))
    done = run("validate", wrong.path)
    assert done.code == 1
    assert "give the checkpoint as well" in done.err
