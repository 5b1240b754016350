"""The page is a function of report.json, and shows what a person needs first."""

from __future__ import annotations

import dataclasses
import html
import re
from pathlib import Path

import pytest

from paraexport.bundle import Bundle
from paraexport.bundle.records import Report
from paraexport.findings.assumptions import Assumption
from paraexport.findings.checks import Accuracy
from paraexport.page import report as pages
from paraexport.page.drawing import drawing
from tests.page.samples import report_of, with_branches


def text(report: Report) -> str:
    """The page without tags, on one line."""
    body = re.sub(r"<(style|svg|title).*?</\1>", "", pages.page(report), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_the_page_in_a_bundle_is_the_one_that_its_report_gives(digits: Bundle) -> None:
    assert (digits.path / "report.html").read_text(encoding="utf-8") == pages.page(report_of(digits))


def test_charts_are_drawn_alike_every_time(digits: Bundle) -> None:
    report = with_branches(report_of(digits), 4)
    assert pages.page(report) == pages.page(report)


def test_the_first_screen_has_verdict_figures_command_and_code(digits: Bundle) -> None:
    report = report_of(digits)
    first = text(report).partition("Contents")[0].partition("Images whose answers changed most")[0]
    assert "This model gives the same answers as PyTorch." in first
    assert "4 checks against PyTorch passed" in first
    assert "top-1: 356 of 359 images" in first  # 99.16 %, as the README says
    assert "times as fast" in first
    assert "paraexport build digits.pt --data test -o digits.bundle" in first
    assert 'paraexport.load("digits.bundle").predict(' in first
    assert "Nothing was assumed" in first


def test_assumptions_and_warnings_are_red_and_on_the_first_screen(small_bundle: Bundle, digits: Bundle) -> None:
    assumed = dataclasses.replace(report_of(digits), assumptions=(Assumption("heads", "2", "a guess"),))
    page = pages.page(assumed)
    assert '<p class="note">assumed heads = 2: a guess</p>' in page
    assert '<h1 class="">' in page  # not green
    assert "This model gives the same answers as PyTorch on made-up images." in text(report_of(small_bundle))


@pytest.mark.parametrize(
    ("precision", "accuracy", "sentence"),
    [
        ("int8", Accuracy(200, 190, 190), "In int8, this model is as accurate as in PyTorch."),
        ("int8", Accuracy(200, 190, 187), "In int8, this model loses 1.5 points of accuracy."),
        ("fp16", None, "In fp16, this model gives the same answers as PyTorch."),
    ],
)
def test_the_verdict_says_what_lower_precision_costs(
    precision: str, accuracy: Accuracy | None, sentence: str, digits: Bundle
) -> None:
    report = report_of(digits)
    assert report.subject is not None
    subject = dataclasses.replace(report.subject, precision=precision)
    assert sentence in text(dataclasses.replace(report, subject=subject, accuracy=accuracy))


def test_an_engine_that_did_not_run_is_not_called_good(digits: Bundle) -> None:
    report = report_of(digits)
    checks = tuple(dataclasses.replace(check, value=None, passed=None) for check in report.checks)
    unproven = dataclasses.replace(report, checks=checks, accuracy=None, answers=None)
    assert "This model was compiled, but has not run yet." in text(unproven)


def test_control_characters_are_shown_as_escapes(digits: Bundle) -> None:
    page = pages.page(dataclasses.replace(report_of(digits), bundle="a\u202eb\x1b[31m.bundle"))
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert r"a\u202eb\x1b[31m.bundle" in page


def test_the_picture_has_every_branch_or_says_how_many_are_left_out(digits: Bundle) -> None:
    report = with_branches(report_of(digits), 4)
    assert report.subject is not None
    few = drawing(report.subject, report)
    large = with_branches(report, 64, 24)
    assert large.subject is not None
    many = drawing(large.subject, large)
    assert few is not None
    assert many is not None
    assert sum(box.kind == "layer" for box in few.boxes) == 4 * 2
    assert [label.text for label in few.labels if label.kind == "share"] == ["25 %"] * 4
    assert "… 57 more branches …" in {label.text for label in many.labels}
    assert "64 branches of 24 layers" in many.description


def test_no_path_of_this_machine_is_in_the_report(digits: Bundle) -> None:
    for name in ("report.json", "report.html"):
        content = (digits.path / name).read_text(encoding="utf-8")
        assert str(digits.path.parent) not in content
        assert str(Path.cwd()) not in content
