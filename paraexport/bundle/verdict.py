"""Sums up a bundle in one sentence, with the strength of the evidence."""

from __future__ import annotations

from dataclasses import dataclass

from paraexport.bundle.records import Report, Subject
from paraexport.findings.checks import Check
from paraexport.findings.document import Tone
from paraexport.findings.words import counted


@dataclass(frozen=True)
class Verdict:
    """The result of a build for somebody who reads one sentence."""

    sentence: str
    evidence: str
    tone: Tone


def verdict(subject: Subject, report: Report) -> Verdict:
    """Say how far the bundle agrees with PyTorch, and on what evidence."""
    checks = {check.name: check for check in report.checks}
    evidence = evidence_text(report)
    parity = checks.get("parity")
    if parity is None or parity.value is None:
        return Verdict("This model was compiled, but has not run yet.", evidence, "note")
    sentence = agreement(subject, report, checks, parity)
    is_certain = not (report.made_up or report.assumptions or report.warnings)
    return Verdict(sentence, evidence, "good" if is_certain else "")


def agreement(subject: Subject, report: Report, checks: dict[str, Check], parity: Check) -> str:
    start = "This model" if subject.precision == "fp32" else f"In {subject.precision}, this model"
    end = " on made-up images." if report.made_up else "."
    if report.accuracy is not None and report.accuracy.pytorch_correct is not None and subject.precision != "fp32":
        lost = 100 * (report.accuracy.pytorch_correct - report.accuracy.engine_correct) / report.accuracy.images
        if lost <= 0:
            return f"{start} is as accurate as in PyTorch."
        return f"{start} loses {lost:.2g} points of accuracy."
    disagreement = checks.get("disagreement")
    if disagreement is None or disagreement.value is None:
        size = f"{parity.value:.1g}" if parity.value else "0"
        return f"{start} gives PyTorch's values within {size} of the largest{end}"
    if disagreement.value == 0:
        return f"{start} gives the same answers as PyTorch{end}"
    return f"{start} gives PyTorch's answer for {100 - disagreement.value:.4g} % of the images{end}"


def evidence_text(report: Report) -> str:
    """`7 checks passed and 1 did not run, on 359 labelled images from test.`"""
    passed = sum(check.passed is True for check in report.checks)
    others = len(report.checks) - passed
    more = f", {others} did not run or had no limit" if others else ""
    return f"{counted(passed, 'check')} against PyTorch passed{more}. Checked on {report.evidence}."
