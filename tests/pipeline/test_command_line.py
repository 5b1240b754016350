"""The command line in a report gives the options of the build."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import pytest

from paraexport.cli import build as command
from paraexport.pipeline.command_line import command_line
from paraexport.pipeline.options import Options
from paraexport.targets.compilation import EngineOptions
from paraexport.targets.profiles import Profile


@pytest.mark.parametrize(
    "options",
    [
        Options(),
        Options(layout="stacked", spec={"heads": "4", "mean": "0.5,0.4,0.3"}, branches=3, max_batch=8),
        Options(branches=(5,), branches_at_load=(1, 2)),
        Options(branches=(0, 2, 1), branches_at_load="all"),
        Options(target="auto", layout="folded", limits={"parity": 1e-4}, rename={"towers": "branches"}),
        Options(precision="int8", calib=Path("docs"), max_drop=0.5, keep=("branches.1",), equalise=False),
        Options(
            target="tensorrt-rtx",
            engine=EngineOptions(compute_capabilities=("8.9",), profiles=(Profile(1, 8, 64),), tf32=True),
        ),
    ],
    ids=repr,
)
def test_the_command_line_gives_the_same_options(options: Options) -> None:
    program, name, *arguments = shlex.split(command_line(Path("some/model.pt"), Path("out/a.bundle"), options))
    assert (program, name) == ("paraexport", "build")
    context = command.command.make_context("build", arguments)
    given = context.params
    assert (given.pop("checkpoint"), given.pop("output")) == (Path("model.pt"), Path("a.bundle"))
    parts = {field: given.pop(field) for field in ("compute_capabilities", "profiles")}
    engine = EngineOptions(**{**vars(given.pop("engine")), **parts})
    for other in ("force", "as_json", "quiet"):
        given.pop(other)
    assert Options(engine=engine, **given) == options


def test_files_have_their_names_only() -> None:
    options = Options(spec={"labels": "/secret/labels.txt"}, module="/secret/net.py:make", data=Path("docs/pictures"))
    line = command_line(Path("/secret/-odd name.pt"), Path("/secret/a.bundle"), options)
    assert "secret" not in line
    assert line == (
        "paraexport build './-odd name.pt' --spec labels=labels.txt --module net.py:make --data pictures -o a.bundle"
    )
    assert isinstance(command.command, click.Command)
