"""`report` writes pages outside of bundles, and refuses what it cannot compare or read in one line."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from pathlib import Path

import pytest

from paraexport.bundle import Bundle, write_manifest
from paraexport.page import comparison
from tests.cli.conftest import Run
from tests.page.samples import report_of


@pytest.fixture
def copy(digits: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits.path, tmp_path / "digits.bundle"))


def change(folder: Path, origin: Bundle, **changes: object) -> None:
    """Change fields of report.json; None removes a field."""
    content = json.loads((folder / "report.json").read_bytes()) | changes
    kept = {name: value for name, value in content.items() if value is not None}
    (folder / "report.json").write_text(json.dumps(kept), encoding="utf-8")
    write_manifest(folder, origin.manifest)


def test_the_page_is_the_one_of_the_build(
    run: Run, digits: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("report", digits.path)
    assert (done.code, done.out) == (0, "wrote digits.report.html; open it in a browser\n")
    assert (tmp_path / "digits.report.html").read_bytes() == (digits.path / "report.html").read_bytes()
    again = run("report", digits.path)
    assert (again.code, "--force" in again.err) == (2, True)
    assert run("report", digits.path, "--force", "-q").code == 0


def test_several_bundles_are_compared(run: Run, digits: Bundle, copy: Path, tmp_path: Path) -> None:
    other = copy.rename(tmp_path / "other.bundle")
    done = run("report", digits.path, other, "-o", tmp_path / "both.html", "--json", "-q")
    assert (done.code, done.err) == (0, "")
    first, second = done.json["bundles"]
    assert (first["name"], second["name"]) == ("digits.bundle", "other.bundle")
    assert first["accuracy"] == pytest.approx(356 / 359)
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert done.json["size_bytes"] == len(page.encode())
    assert "2 bundles of digits.pt" in page
    assert "other.bundle" in page


def test_different_models_are_compared_only_if_asked(
    run: Run, digits: Bundle, small_bundle: Bundle, tmp_path: Path
) -> None:
    given = ("report", digits.path, small_bundle.path, "-o", tmp_path / "both.html")
    done = run(*given)
    assert done.code == 2
    assert "the bundles hold different models" in done.err
    assert "digits.bundle from digits.pt; small.bundle from small.pt" in done.err
    assert not (tmp_path / "both.html").exists()
    assert run(*given, "--different-models").code == 0
    assert "accuracy was measured on different images" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_other_branches_of_one_checkpoint_are_kept_apart(small_bundle: Bundle) -> None:
    report = report_of(small_bundle)
    assert report.subject is not None
    source = dataclasses.replace(report.subject.source, branches=(2, 0))
    fewer = dataclasses.replace(report, bundle="fewer", subject=dataclasses.replace(report.subject, source=source))
    page = re.sub(r"<[^>]*>", " ", comparison.page([report, fewer]))
    assert len(re.findall(r"small\.pt\s+(?:first 3|2, 0)\s+PyTorch", page)) == 2
    assert "branches" not in re.sub(r"<[^>]*>", " ", comparison.page([report, report])).partition("All bundles")[2]


def test_a_report_without_newer_fields_shows_what_it_has(run: Run, digits: Bundle, copy: Path, tmp_path: Path) -> None:
    change(copy, digits, schema=None, subject=None, answers=None, costs=None, command=None, bundle=None)
    assert run("report", copy, "-o", tmp_path / "old.html").code == 0
    page = (tmp_path / "old.html").read_text(encoding="utf-8")
    assert "This model gives the same answers as PyTorch." in page
    assert "4 branches of 2 layers" in page  # from the manifest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 99}, "the report has a newer form (expected at most 2, got 99); update paraexport"),
        ({"schema": "new"}, "the report cannot be read"),
        ({"checks": 5}, "the report cannot be read"),
        ({"machine": None}, "the report cannot be read"),
        ({"accuracy": {"images": 0, "pytorch_correct": 0, "engine_correct": 0}}, "the report contradicts itself"),
    ],
)
def test_a_report_that_cannot_be_used_is_one_line(
    changes: dict[str, object], message: str, run: Run, digits: Bundle, copy: Path
) -> None:
    change(copy, digits, **changes)
    page = copy.with_name("a.html")
    done = run("report", copy, "-o", page, "-q")
    assert done.code == 2
    assert message in done.err
    assert len(done.err.splitlines()) == 1
    assert not page.exists()


def test_what_is_no_bundle_is_refused(run: Run, digits: Bundle, copy: Path, tmp_path: Path) -> None:
    (copy / "report.json").unlink()
    assert "report.json: a file of the bundle is missing" in run("report", copy, "-o", tmp_path / "a.html").err
    write_manifest(copy, digits.manifest)
    done = run("report", copy, "-o", tmp_path / "a.html")
    assert (done.code, "report.json: the manifest does not list this file" in done.err) == (2, True)
    for path in (tmp_path, tmp_path / "nothing", digits.path / "model.onnx"):
        done = run("report", path, "-o", tmp_path / "a.html")
        assert (done.code, "not a bundle" in done.err) == (2, True)


def test_a_page_does_not_go_into_a_bundle_or_over_a_folder(run: Run, digits: Bundle, tmp_path: Path) -> None:
    inside = run("report", digits.path, "-o", digits.path / "page.html")
    assert (inside.code, "a bundle must not get other files" in inside.err) == (2, True)
    assert run("report", digits.path, "-o", digits.path / "report.html", "--force").code == 2
    assert "the output is a folder" in run("report", digits.path, "-o", tmp_path, "--force").err
