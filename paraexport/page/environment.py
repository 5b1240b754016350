"""Sets up the templates of pages. Every text is escaped, and control characters in it are shown as escapes."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from paraexport.errors import printable
from paraexport.findings.document import Chart, Line, Table

if TYPE_CHECKING:
    from jinja2 import Environment

FOLDER = Path(__file__).parent / "templates"
LONG_TABLE, SHOWN_ROWS = 16, 10
"""A table with more rows shows the first ones; the others unfold."""


@functools.cache
def environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    from paraexport.page.plots import draw

    templates = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) or not isinstance(value, str) else printable(value),
    )
    templates.globals |= {"linefeed": Markup("\n"), "style": Markup((FOLDER / "style.css").read_text(encoding="utf-8"))}  # noqa: S704
    templates.filters |= {"draw": lambda chart, name: Markup(draw(chart, name)), "printable": printable}  # noqa: S704
    templates.tests |= {
        "line": lambda block: isinstance(block, Line),
        "table": lambda block: isinstance(block, Table),
        "chart": lambda block: isinstance(block, Chart),
    }
    return templates


def render(template: str, **values: object) -> str:
    return (
        environment().get_template(template).render(values, long_table=LONG_TABLE, shown_rows=SHOWN_ROWS).rstrip()
        + "\n"
    )
