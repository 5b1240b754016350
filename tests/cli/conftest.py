"""Runs the command line in this process, as a user's shell would see it."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from paraexport.cli import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What is on stdout; `json.loads` refuses more than one object."""
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run_main(*arguments: object) -> Done:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Done(code, *capsys.readouterr())

    return run_main
