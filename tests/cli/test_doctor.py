"""`doctor` finds what is there, what is missing, what is broken and what is too old."""

import importlib.metadata
import os
import platform
import sys
import tomllib

import pytest

from paraexport import targets
from tests.cli.conftest import Run
from tests.conftest import ROOT
from tests.remedies import pip_install

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def libraries(run: Run) -> dict[str, dict[str, str | None]]:
    return {one["name"]: one for one in run("doctor", "--json").json["libraries"]}


def test_every_library_that_the_project_names_is_listed_with_its_version(run: Run) -> None:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    names = {line.replace("[", ">").partition(">")[0] for line in lines}
    found = libraries(run)
    assert found.keys() == names
    for name in ("torch", "onnx", "onnxruntime", "numpy", "pillow"):
        assert found[name]["version"] == importlib.metadata.version(name)
        assert found[name]["problem"] == ""


def test_every_extra_says_in_words_what_it_is_for(run: Run) -> None:
    told = {one["extra"]: one["purpose"] for one in run("doctor", "--json").json["libraries"]}
    assert [extra for extra, purpose in told.items() if len(purpose.split()) < 2 and extra] == []


def test_the_machine_and_what_it_can_do(run: Run) -> None:
    done = run("doctor")
    assert done.code == 0
    assert f"paraexport {PROJECT['version']}, Python {platform.python_version()}" in done.out
    assert f"{len(os.sched_getaffinity(0))} CPUs" in done.out
    assert "run bundles (predict, validate):  yes" in done.out
    told = run("doctor", "--json").json
    assert (told["can_run"], told["can_build"]) == (True, True)
    assert [one["name"] for one in told["targets"]] == list(targets.TARGETS)


def test_a_library_of_which_a_twin_is_installed_is_not_asked_for(run: Run) -> None:
    assert libraries(run)["onnxruntime-gpu"]["remedy"] == ""


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, version: str | None) -> None:
    real = importlib.metadata.version

    def pretended(asked: str) -> str:
        if asked != name:
            return real(asked)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(asked)
        return version

    monkeypatch.setattr(importlib.metadata, "version", pretended)


def test_what_is_missing_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "onnxscript", None)
    found = libraries(run)["onnxscript"]
    assert (found["version"], found["remedy"]) == (
        None,
        pip_install("build"),
    )
    done = run("doctor")
    assert done.code == 0
    assert "build bundles (build, inspect):   no" in done.out


@pytest.mark.parametrize(("version", "old"), [("2.12.9", True), ("2.13", False), ("2.13.0+cpu", False), ("3.0", False)])
def test_what_is_too_old_is_found(run: Run, monkeypatch: pytest.MonkeyPatch, version: str, old: bool) -> None:
    pretend(monkeypatch, "torch", version)
    assert ("too old, 2.13 or later" in str(libraries(run)["torch"]["problem"])) is old


def test_both_builds_of_onnx_runtime_at_once_is_a_problem(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, "onnxruntime-gpu", "1.32.0")
    assert libraries(run)["onnxruntime"]["problem"] == "onnxruntime-gpu overwrites it"


def test_without_any_target_the_exit_code_is_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in targets.TARGETS:
        monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    done = run("doctor", "--json")
    assert done.code == 3
    assert (done.json["can_run"], done.json["can_build"]) == (False, False)
    assert done.json["targets"][0]["remedy"] == pip_install("cpu")
    assert "cannot be imported" in {one["name"]: one for one in done.json["libraries"]}["onnxruntime"]["problem"]
    assert pip_install("cpu") in run("doctor").out


def test_doctor_tells_what_int8_costs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paraexport.targets.ort.target.saturates", lambda: True)
    assert "int8 runs at half its speed, because the CPU has no VNNI" in run("doctor").out
    monkeypatch.setattr("paraexport.targets.ort.target.saturates", lambda: False)
    monkeypatch.setattr("paraexport.targets.openvino.saturates", lambda: False)
    assert "VNNI" not in run("doctor").out
    states = {state["name"]: state for state in run("doctor", "--json").json["targets"]}
    assert states["onnxruntime"]["slow_int8"] == states["openvino"]["slow_int8"] == ""
