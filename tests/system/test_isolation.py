"""A function in a process of its own: its result and its errors come back, and its crash is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from paraexport.errors import CheckFailed, InputError, MissingError, OutputError
from paraexport.system import isolation
from tests.crashing import CHECK

FILE = Path("odd.onnx")


def call(name: str, *arguments: object, **options: object) -> object:
    return isolation.call(f"tests.crashing:{name}", *arguments, where=FILE, remedy="try another", **options)  # type: ignore[arg-type]


def test_arguments_and_results_cross_as_they_are() -> None:
    stages: list[str] = []
    assert call("answer", "é\udcff", 2**40, 0.1, True, progress=stages.append) == ["é\udcff", 2**40, 0.1, True]
    assert stages == ["reading"]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE"])
def test_a_crash_is_an_input_error_that_names_file_stage_and_signal(name: str) -> None:
    with pytest.raises(InputError, match=rf"^odd.onnx: a library crashed while checking \(got {name}\); try another$"):
        call("die", int(getattr(signal, name)))


def test_too_little_memory_is_exit_code_3() -> None:
    for arguments in (("die", int(signal.SIGKILL)), ("run_out_of_memory",), ("fail", "memory")):
        with pytest.raises(MissingError, match="not enough memory") as caught:
            call(*arguments)
        assert caught.value.exit_code == 3


def test_errors_keep_their_class_and_their_parts() -> None:
    with pytest.raises(CheckFailed) as caught:
        call("fail", "check")
    assert str(caught.value) == "a.onnx: it differs (expected 1, got 2); report it"
    assert caught.value.checks == (CHECK,)
    with pytest.raises(OutputError, match=r"^no$"):
        call("fail", "output")
    with pytest.raises(FileNotFoundError) as missing:
        call("fail", "system")
    assert missing.value.filename == "/nowhere/at/all"
    with pytest.raises(ModuleNotFoundError) as library:
        call("fail", "import")
    assert library.value.name == "no_such_library"


def test_a_fault_of_ours_keeps_its_name_and_its_traceback() -> None:
    with pytest.raises(Exception, match="'other'") as caught:
        call("fail", "other")
    assert type(caught.value).__name__ == "KeyError"
    assert "tests/crashing.py" in caught.value.__notes__[0]


def test_a_warning_is_one_line_and_comes_once(capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    assert call("warn", warn=lines.append) == 1
    assert lines == ["first line", "a.library: second line"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_process_ends_with_the_one_that_started_it(number: int, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    code = (
        "from pathlib import Path; from paraexport.system import isolation;"
        f"isolation.call('tests.crashing:wait', {str(note)!r}, where=Path('a'), remedy='')"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (note.exists() and note.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    parent.send_signal(number)
    parent.wait(10)
    child = int(note.read_text())
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
