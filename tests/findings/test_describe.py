"""Findings as sections: every fact is there, on a terminal and on a page."""

from __future__ import annotations

import html

import pytest

from paraexport.cli.render import print_sections
from paraexport.findings import describe
from paraexport.findings.assumptions import Assumption
from paraexport.findings.bisection import Bisection, PartDifference
from paraexport.findings.checks import Accuracy, Check
from paraexport.findings.document import Cell, Line, Section, Table
from paraexport.findings.graphs import CandidateTimes, Effect, Lowering, PartError, Rewrite
from paraexport.page.environment import environment

PASSED = Check("parity", 1.5e-6, 1e-5, "max |Δ logit| / max |logit|", 359, True, "float32 sums in another order")
FAILED = Check("cosine", 0.2, 1e-3, "1 - cosine", 1234, False, "the limit of int8")
NOT_RUN = Check("accuracy_drop", None, 0.0, "percentage points", 0, None, "no labelled images")
MOVED = Check("batches", 1e-3, 1e-2, "max |Δ|", 74, True, "moved from 1e-05 by --limit")
LOWERING = Lowering(
    calibration="64 images", calibrator="mse", equalised=True, kept=("branches.1",), reason="by --keep",
    errors=tuple(PartError(f"branches.{index}", error, index == 1) for index, error in enumerate((0.25, 0.5, 0.125))),
    additivity=1e-6, float32=("sum: exceeds the range",), products={"a": 75, "b": 15}, linear_multiply_adds=100,
    effects=(Effect("norms folded", 0.0625),),
)  # fmt: skip
SECTIONS = [
    describe.checks([PASSED, FAILED, NOT_RUN, MOVED], "359 images"),
    *describe.accuracy(Accuracy(200, 150, 149)),
    *describe.rewrites(
        [Rewrite("norms", 5, ()), Rewrite("stack", 0, ("n1: too <few>", "n2: too <few>"))], refusals=True
    ),
    *describe.precision(LOWERING),
    *describe.candidates([
        CandidateTimes("openvino", "folded", {"1": 1.25}, chosen=True),
        CandidateTimes("onnxruntime", "stacked", {}, chosen=False, failure="no such operator"),
    ]),
    *describe.assumptions(
        [
            Assumption("mean", "0.5", "check"),
            Assumption("std", "0.25", "check"),
            Assumption("dtype", "float32", "rounded"),
        ],
        {"mean", "std"},
    ),
    describe.bisection(
        Bisection("openvino", 1, 1e-5, 0.5, (PartDifference("stem", "", 3, 0.5),), PartDifference("stem", "", 3, 0.5))
    ),
    describe.seconds({"trace": 2.5}, 3.25, ", on a machine"),
]  # fmt: skip


def page(section: Section) -> str:
    template = environment().from_string(
        "{% from 'blocks.html.jinja' import blocks with context %}"
        "<h3>{{ section.title }}</h3>{{ blocks(section, 'a') }}"
    )
    return template.render(section=section, long_table=16, shown_rows=10)


def cells(section: Section) -> list[Cell]:
    return [cell for block in section.blocks if isinstance(block, Table) for row in block.rows for cell in row]


def texts(section: Section) -> list[str]:
    return [block.text for block in section.blocks if isinstance(block, Line)]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_a_page_has_every_fact(section: Section) -> None:
    shown = html.unescape(page(section))
    for text in [section.title, *texts(section), *(cell.text for cell in cells(section))]:
        assert text in shown


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_a_terminal_has_every_fact_that_is_not_shortened(section: Section, capsys: pytest.CaptureFixture[str]) -> None:
    print_sections([section])
    shown = capsys.readouterr().out
    for text in [section.title, *texts(section), *(cell.text for cell in cells(section) if cell.brief is None)]:
        assert text in shown


def test_the_reason_of_a_check_is_on_the_terminal_only_where_it_matters(capsys: pytest.CaptureFixture[str]) -> None:
    print_sections([SECTIONS[0]])
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line}
    assert lines["parity"].split()[1:4] == ["passed", "1.5e-06", "1e-05"]
    assert "another order" not in lines["parity"]
    assert lines["cosine"].split()[1] == "FAILED"
    assert lines["cosine"].endswith("1,234  the limit of int8")
    assert "not run" in lines["accuracy_drop"]
    assert lines["accuracy_drop"].endswith("no labelled images")
    assert lines["batches"].endswith("moved from 1e-05 by --limit")


def test_numbers_are_those_of_the_findings() -> None:
    by_title = {section.title: section for section in SECTIONS}
    assert texts(by_title["Accuracy"]) == ["top-1: 75.00 % (150 of 200) in PyTorch, 74.50 % (149 of 200) here"]
    precision = texts(by_title["Precision"])
    assert precision[0].startswith("90.0 % of the multiply-adds")
    assert "kept in float32: branches.1: by --keep" in precision
    first = [cell.text for cell in cells(by_title["Precision"]) if cell.text.startswith("branches.")]
    assert first == ["branches.1", "branches.0", "branches.2"]
    assert [cell.bar for cell in cells(by_title["Precision"]) if cell.bar is not None] == [1.0, 0.5, 0.25]
    refusals = [cell.text for cell in cells(by_title["Rewrites"])]
    assert refusals == ["stack", "2", "n1", "too <few>"]
    assert texts(by_title["Assumed"]) == [
        "assumed mean = 0.5, std = 0.25: check",
        "assumed dtype = float32: rounded",
        "to set a field, give --spec FIELD=VALUE",
    ]


def test_a_long_table_is_cut_on_a_terminal_and_whole_on_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    rows = tuple((Cell(f"part {index}"),) for index in range(10))
    section = Section("Parts", (Table(("part",), rows, brief=3),))
    print_sections([section])
    shown = capsys.readouterr().out
    assert ("part 2" in shown, "part 3" in shown, "… and 7 more" in shown) == (True, False, True)
    assert "part 9" in page(section)


def test_nothing_known_is_no_section() -> None:
    assert [*describe.accuracy(None), *describe.precision(None), *describe.candidates([])] == []
    assert [*describe.rewrites([], refusals=True), *describe.warnings([]), *describe.assumptions([], ())] == []
