"""The published schema is that of the code, and a built report fits it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from paraexport.bundle import Bundle, report
from paraexport.page import report as pages
from tests.conftest import ROOT
from tests.page.samples import report_of, with_branches

SCHEMA = ROOT / "docs/report.schema.json"


def test_the_published_schema_is_that_of_the_code() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == report.json_schema(), (
        "write it again: python -c 'from paraexport.bundle.report import json_schema; print(json_schema(), end=\"\")' "
        "> docs/report.schema.json"
    )


def test_built_reports_fit_the_schema(digits: Bundle, small_bundle: Bundle, tmp_path: Path) -> None:
    schema = json.loads(SCHEMA.read_bytes())
    validator = jsonschema.Draft202012Validator(schema)
    pages.write(tmp_path, with_branches(report_of(digits), 4))
    for folder in (digits.path, small_bundle.path, tmp_path):
        validator.validate(json.loads((folder / "report.json").read_bytes()))
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({**msgspec.to_builtins(report_of(digits)), "checks": "none"})
