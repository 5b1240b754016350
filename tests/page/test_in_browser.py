"""The pages in a real browser: no script, no request, nothing sideways, and accessible."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraexport.bundle import Bundle
from paraexport.page import comparison
from paraexport.page import report as pages
from tests.page import browser
from tests.page.browser import View
from tests.page.samples import HOSTILE, build_int8, build_module, report_of, with_branches

MOST_BYTES = 1_000_000
GRAVE = ("serious", "critical")


@pytest.fixture(scope="module")
def folder(digits: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pages of every kind."""
    browser.chromium()
    folder = tmp_path_factory.mktemp("pages")
    reports = {"int8": report_of(build_int8(folder)), "module": report_of(build_module(folder))}
    reports["digits"] = with_branches(report_of(digits), 4)
    reports["large"] = with_branches(reports["digits"], 64, 24)
    for name, report in reports.items():
        (folder / f"{name}.html").write_text(pages.page(report), encoding="utf-8")
    (folder / "comparison.html").write_text(comparison.page([*reports.values()]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def views(folder: Path) -> list[View]:
    return browser.views(sorted(folder.glob("*.html")), folder)


def test_a_page_is_one_small_file_that_asks_for_nothing(folder: Path, views: list[View]) -> None:
    assert {view.file for view in views} == {
        "comparison.html", "digits.html", "int8.html", "large.html", "module.html",
    }  # fmt: skip
    for view in views:
        assert (view.requests, view.problems, view.scripts, view.broken) == ([], [], 0, 0), view.file
    assert all(file.stat().st_size < MOST_BYTES for file in folder.glob("*.html"))


def test_no_page_scrolls_sideways(views: list[View]) -> None:
    assert {view.width for view in views} == {400, 1200}
    assert [(view.file, view.width, view.overflow) for view in views if view.overflow > 0] == []


def test_a_page_is_accessible_in_light_and_dark(views: list[View]) -> None:
    assert {view.scheme for view in views} == {"light", "dark"}
    found = [(view.file, view.scheme, view.width, entry) for view in views for entry in view.violations]
    assert [entry for entry in found if entry[-1]["impact"] in GRAVE] == []


def test_a_page_shows_pictures_charts_and_labels(views: list[View]) -> None:
    shown = {view.file: view for view in views}
    assert shown["digits.html"].images == shown["int8.html"].images == 8
    assert [shown[name].charts for name in ("digits.html", "comparison.html", "module.html")] == [2, 2, 0]
    assert "Error of each branch and layer" in shown["int8.html"].headings
    assert shown["digits.html"].headings[0] == "This model gives the same answers as PyTorch."
    assert "57 more branches" in shown["large.html"].text
    for label in HOSTILE:
        assert label in shown["module.html"].text
