"""Collects, writes and reads `report.json`, the report of a build for programs. `page/` makes `report.html` of it."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from paraexport.bundle import REBUILD
from paraexport.bundle.records import SCHEMA, Manifest, Report
from paraexport.errors import BundleError, on_one_line
from paraexport.findings.answers import AnswerReport
from paraexport.findings.branches import BranchReport
from paraexport.findings.checks import Accuracy
from paraexport.findings.costs import CostReport
from paraexport.findings.speed import FirstLook
from paraexport.images.dataset import Samples
from paraexport.targets.compilation import EngineInfo
from paraexport.targets.folder import Folder
from paraexport.timing.clock import Clock

JSON = "report.json"


@dataclass(frozen=True)
class Version:
    """The only field that every version of a report shares."""

    schema: int = 1


def summarise(  # noqa: PLR0917
    manifest: Manifest,
    samples: Samples,
    accuracy: Accuracy | None,
    clock: Clock,
    export_s: float,
    engine: EngineInfo | None = None,
    warnings: tuple[str, ...] = (),
    first_look: FirstLook | None = None,
    branches: BranchReport | None = None,
    *,
    name: str = "",
    command: str = "",
    answers: AnswerReport | None = None,
    costs: CostReport | None = None,
) -> Report:
    """Collect the report of the build that made `manifest`."""
    return Report(
        schema=SCHEMA,
        bundle=name,
        command=command,
        subject=manifest.subject,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        stages_s=dict(clock.seconds),
        export_s=export_s,
        total_s=clock.total,
        evidence=manifest.evidence,
        made_up=samples.made_up,
        unreadable=samples.unreadable,
        accuracy=accuracy,
        checks=manifest.checks,
        assumptions=manifest.assumptions,
        engine=engine,
        warnings=warnings,
        first_look=first_look,
        branches=branches,
        answers=answers,
        costs=costs,
    )


def write(folder: Path, report: Report) -> None:
    """Write `report.json` into `folder`."""
    content = json.dumps(msgspec.to_builtins(report), indent=1, ensure_ascii=False)
    (folder / JSON).write_text(content + "\n", encoding="utf-8")


def json_schema() -> str:
    """The JSON schema of `report.json`. `docs/report.schema.json` is a copy."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Report)}
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def read(folder: Folder) -> Report:
    """Read the report of a bundle.

    Raises:
        BundleError: the report is missing, is damaged, contradicts itself, or needs a newer paraexport.
    """
    content, where = folder.read(JSON), folder.path / JSON
    try:
        version = msgspec.json.decode(content, type=Version).schema
        report = msgspec.json.decode(content, type=Report) if version <= SCHEMA else None
    except (ValueError, RecursionError) as error:  # msgspec raises a ValueError
        raise BundleError("the report cannot be read", where=where, got=on_one_line(error), remedy=REBUILD) from error
    if report is None:
        expected, remedy = f"at most {SCHEMA}", "update paraexport"
        raise BundleError("the report has a newer form", where=where, expected=expected, got=version, remedy=remedy)
    if problems := list(report.problems()):
        raise BundleError(f"the report contradicts itself: {'; '.join(problems)}", where=where, remedy=REBUILD)
    return report
