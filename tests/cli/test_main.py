"""Help, exit codes, one-line errors, JSON for every outcome, pipes that close and signals."""

import errno
import importlib.machinery
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime
import pytest
import torch
from PIL import Image

from paraexport.bundle import Bundle
from paraexport.cli.render import line_of
from paraexport.findings.words import option_text, size_text
from tests.cli.conftest import Run
from tests.conftest import DIGITS, ROOT, TEST_IMAGES
from tests.remedies import pip_install

PROGRAM = (sys.executable, "-m", "paraexport")
COMMANDS = ("build", "inspect", "validate", "predict", "bench", "doctor")


def test_help_names_every_command_with_a_whole_sentence_and_the_exit_codes(run: Run) -> None:
    done = run("--help")
    assert done.code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].*\.$", done.out, re.MULTILINE)
    assert "..." not in done.out.partition("Commands:")[2]
    assert "0 success; 1 a check failed; 2 bad usage or input; 3 something" in " ".join(done.out.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_explains_itself_with_examples_of_its_own_options(run: Run, name: str) -> None:
    done = run(name, "-h")
    assert done.code == 0
    assert f"  paraexport {name}" in done.out.partition("Examples:")[2]
    for option in ("--json", "--quiet"):
        assert option in done.out
    options, examples = done.out.partition("Options:")[2], done.out.partition("Examples:")[2].partition("Options:")[0]
    assert all(option in options for option in re.findall(r"--\w[\w-]*", examples))


def test_build_offers_the_options_of_the_contract_and_none_that_does_not_exist_yet(run: Run) -> None:
    offered = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", run("build", "--help").out, re.MULTILINE))
    assert offered == {
        "--output", "--target", "--precision", "--layout", "--branches", "--branches-at-load", "--spec", "--module",
        "--weights", "--rename",
        "--max-batch", "--calib",
        "--data", "--max-drop", "--limit", "--calibrator", "--keep", "--no-equalise", "--profile",
        "--compute-capability", "--engine", "--force", "--json", "--quiet", "--help",
    }  # fmt: skip


def test_the_version_is_that_of_the_package(run: Run) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert run("--version").out == f"paraexport {project['version']}\n"
    assert project["scripts"] == {"paraexport": "paraexport.cli:main"}


def test_without_a_command_it_says_how_it_is_used(run: Run) -> None:
    done = run()
    assert done.code == 2
    assert done.out == ""
    assert "Usage: paraexport" in done.err


def test_importing_the_command_line_imports_neither_numpy_nor_rich() -> None:
    code = "import sys, paraexport.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "rich", "torch", "onnx", "onnxruntime", "PIL"} & set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["biuld"], "No such command 'biuld'"),
        (["build"], "Missing argument 'CKPT'"),
        (["build", "a.pt", "--forec"], "No such option"),
        (["build", "a.pt", "--target", "coreml"], "'coreml' is not one of 'onnxruntime'"),
        (["build", "a.pt", "--precision", "int4"], "'int4' is not "),
        (["build", "a.pt", "--layout", "round"], "'round' is not one of 'branches', 'folded', 'stacked'"),
        (["build", "a.pt", "--max-batch", "0"], "0 is not in the range"),
        (["build", "a.pt", "--max-drop", "-1"], "is not in the range"),
        (["build", "a.pt", "--spec", "heads"], "'heads' is not NAME=VALUE"),
        (["build", "a.pt", "--spec", "=4"], "'=4' is not NAME=VALUE"),
        (["build", "a.pt", "--spec", "heads="], "'heads=' is not NAME=VALUE"),
        (["build", "a.pt", "--spec", "heads=3", "--spec", "heads=4"], "heads is given twice, as 3 and as 4"),
        (["build", "a.pt", "--limit", "parity=small"], "parity=small is not a number"),
        (["build", "a.pt", "--limit", "parity=nan"], "parity=nan is not a number"),
        (["build", "a.pt", "--limit", "parity=-1"], "parity=-1 is not a number"),
        (["build", "a.pt", "--limit", "parity=1", "--limit", "parity=2"], "parity is given twice, as 1 and as 2"),
        (["validate", "a.bundle", "--spec", "heads=3"], "--spec, --module, --weights and --rename need CKPT"),
        (["inspect", "a.onnx", "--spec", "heads=3"], "--spec, --module, --weights and --rename are for checkpoints"),
        (["predict", "a.bundle"], "Missing argument"),
        (["predict", "a.bundle", "a.png", "--top", "0"], "0 is not in the range"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(run: Run, arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.code == 2
    assert re.match(rf"error: .*({message}).*\n\Z", done.err)
    assert done.out == ""
    told = run(*arguments, "--json")
    assert told.code == told.json["exit_code"] == 2
    assert re.search(message, told.json["error"]["what"])
    assert told.json["error"]["remedy"].startswith("see `paraexport")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--branches", "two", "invalid choice of branches (expected how many to keep"),
        ("--branches", "0,2,0", "a branch is chosen twice (got 0 more than once)"),
        ("--branches-at-load", "2-4", "invalid numbers of branches (expected all, or numbers"),
    ],
)
def test_a_wrong_choice_of_branches_is_one_line(run: Run, option: str, value: str, message: str) -> None:
    done = run("build", "a.pt", option, value)
    assert done.code == 2
    assert done.err.startswith(f"error: {option}: {message}")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("name", ["build", "inspect"])
def test_an_error_of_a_stage_keeps_its_parts_in_json(run: Run, tmp_path: Path, name: str) -> None:
    done = run(name, tmp_path / "none.pt", "--json")
    assert done.code == 2
    assert done.json["exit_code"] == 2
    error = done.json["error"]
    assert error.keys() == {"kind", "what", "where", "expected", "got", "remedy"}
    assert (error["kind"], error["where"]) == ("CheckpointError", str(tmp_path / "none.pt"))
    assert done.err.splitlines()[-1].startswith(f"error: {tmp_path}")


def test_what_stands_after_two_dashes_is_no_option(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("build", "--", "--json")
    assert done.code == 2
    assert done.out == ""
    assert "--json: no checkpoint" in done.err


def test_a_missing_library_is_exit_code_3_and_says_what_to_install(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.onnx").write_bytes(b"x")
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('No module named onnx', name='onnx')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))  # of the process in which files from outside are read
    done = run("inspect", tmp_path / "a.onnx")
    assert done.code == 3
    assert done.err == f"error: onnx is not installed; {pip_install('build')}\n"


def test_a_library_that_cannot_be_loaded_is_exit_code_3_too(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system refuses the memory for its shared object."""
    (tmp_path / "a.onnx").write_bytes(b"x")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx/__init__.py").write_text("from onnx import inside")
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    (tmp_path / f"onnx/inside{suffix}").write_bytes(b"no library")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = run("inspect", tmp_path / "a.onnx")
    assert done.code == 3
    assert re.match(r"error: onnx cannot be imported \(got .*inside.*\); paraexport doctor, or pip install", done.err)


def numpy_has_no_memory() -> None:
    np.empty(2**56, np.float32)


def torch_has_no_memory() -> None:
    torch.empty(2**56)


def onnx_runtime_has_no_memory() -> None:
    graph = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 20]> g (float[n] x, int64[k] s) => (float[m] y) { y = Expand(x, s) }'
    ).SerializeToString()
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.ones(1, np.float32), "s": np.asarray([2**56], np.int64)})


def openvino_has_no_memory() -> None:
    """In its words: with 1.5 GB and 4096 images in one run."""
    raise RuntimeError("[CPU] FullyConnected node Check 'ptr' failed: Failed to allocate 71303168 bytes of memory\n")


@pytest.mark.parametrize(
    "work", [numpy_has_no_memory, torch_has_no_memory, onnx_runtime_has_no_memory, openvino_has_no_memory]
)
def test_too_little_memory_is_no_bug_of_ours(
    work: Callable[[], None], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paraexport.cli.doctor.diagnose", work)
    done = run("doctor", "-q")
    assert done.code == 3
    assert re.fullmatch(
        r"error: there is not enough memory \(got .*\); free memory, or build .*--max-batch\n", done.err
    )


def test_what_nobody_expected_is_called_a_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr("paraexport.cli.doctor.diagnose", broken)
    done = run("doctor", "-q")
    assert done.code == 1
    assert re.match(r"error: this is a bug in paraexport: ZeroDivisionError: two lines; .*\n\Z", done.err)
    monkeypatch.setenv("PARAEXPORT_TRACEBACK", "1")
    assert "Traceback" in run("doctor", "-q").err
    assert run("doctor", "-q", "--json").json["error"]["kind"] == "InternalError"


def test_a_refusal_of_the_system_names_the_file(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/a/file")

    monkeypatch.setattr("paraexport.cli.doctor.diagnose", refused)
    done = run("doctor", "-q")
    assert (done.code, done.err) == (2, "error: /a/file: Permission denied\n")


def test_a_reader_that_goes_away_is_no_error(digits: Bundle) -> None:
    command = [*PROGRAM, "predict", str(digits.path), *[str(TEST_IMAGES)] * 30]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 128 + signal.SIGPIPE


def test_a_full_disk_behind_stdout_is_one_line(digits: Bundle) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*PROGRAM, "inspect", str(digits.path)]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")


def test_closed_streams_do_not_matter(digits: Bundle) -> None:
    script = f"{sys.executable} -m paraexport inspect {digits.path} >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], check=False).returncode == 0


HEED = (
    "import os, signal, sys\n"
    "for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(number, signal.SIG_DFL)\n"
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)
"""Starts a program that heeds signals, although the tests may run in the background, where some are ignored."""


@pytest.mark.parametrize(
    ("number", "code", "stage"),
    [
        (signal.SIGINT, 130, "checkpoint"),
        (signal.SIGINT, 130, "trace"),
        (signal.SIGTERM, 143, "trace"),
        (signal.SIGHUP, 129, "checkpoint"),
    ],
)
def test_a_signal_ends_a_build_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals, code: int, stage: str
) -> None:
    output = tmp_path / "out" / "a.bundle"
    command = [sys.executable, "-c", HEED, *PROGRAM, "build", str(DIGITS), "-o", str(output), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        while process.stderr.readline() != f"{stage}...\n":
            assert process.poll() is None
        if stage == "trace":
            time.sleep(0.3)
            assert {path.name[:12] for path in output.parent.iterdir()} == {".paraexport-"}
        process.send_signal(number)
        process.send_signal(number)
        told, said = process.stdout.read(), process.stderr.read()
    assert process.returncode == code
    assert said.splitlines()[-1] == "interrupted; nothing was written"
    assert "Traceback" not in said
    assert json.loads(told)["exit_code"] == code
    assert not output.parent.exists() or list(output.parent.iterdir()) == []


def test_what_was_asked_to_be_ignored_stays_ignored(tmp_path: Path) -> None:
    script = f"trap '' HUP; exec {' '.join(PROGRAM)} doctor -q"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL) as process:
        time.sleep(0.7)
        process.send_signal(signal.SIGHUP)
        assert process.wait() == 0


def test_on_a_terminal_a_stage_is_shown_live_and_its_seconds_stay(small_bundle: Bundle) -> None:
    master, slave = pty.openpty()
    command = [*PROGRAM, "validate", str(small_bundle.path)]
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, text=True, env=environment) as process:
        os.close(slave)
        shown = b""
        try:
            while part := os.read(master, 4096):
                shown += part
        except OSError:  # how a terminal says that the other side has closed it
            os.close(master)
        assert process.stdout is not None
        out = process.stdout.read()
    assert process.returncode == 0
    assert re.search(rb"bundle +\d+\.\d s", shown)
    assert "\x1b" not in out


def test_text_from_outside_stays_on_its_line_and_cannot_steer_a_terminal() -> None:
    assert line_of("a\nb\x1b[31mc\udcff ä") == "a b\\x1b[31mc\\udcff ä"


@pytest.mark.parametrize(
    ("value", "text"), [((32, 48), "32x48"), ((0.5, 0.4), "0.5,0.4"), ((0.5,), "0.5"), (True, "true"), (1e-6, "1e-06")]
)
def test_values_are_shown_as_spec_takes_them(value: object, text: str) -> None:
    assert option_text(value) == text


def test_sizes_are_in_powers_of_a_thousand() -> None:
    assert [size_text(size) for size in (0, 999, 1500, 2_000_000, 3_210_000_000)] == [
        "0 bytes", "999 bytes", "1.5 kB", "2.0 MB", "3.2 GB",
    ]  # fmt: skip


def test_what_a_library_writes_to_descriptor_1_does_not_mix_with_results() -> None:
    code = (
        "import os; from paraexport.cli.stages import Stages\n"
        "with Stages(quiet=True): os.write(1, b'noise')\n"
        "print('result')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("result\n", "noise")


@pytest.mark.parametrize(
    ("arguments", "code", "keys"),
    [
        (["--json"], 2, {"error", "exit_code"}),
        (["--json", "biuld"], 2, {"error", "exit_code"}),
        (["--json", "--nonsense"], 2, {"error", "exit_code"}),
        (["--json=1", "doctor"], 2, {"error", "exit_code"}),
        (["doctor", "--json=1"], 2, {"error", "exit_code"}),
        (["--json", "build"], 2, {"error", "exit_code"}),
        (["--json", "inspect", ""], 2, {"error", "exit_code"}),
        (["build", "a.pt", "-o", "--json"], 2, {"error", "exit_code"}),
        (["--help", "--json"], 0, {"help"}),
        (["--json", "-h"], 0, {"help"}),
        (["predict", "--json", "--help"], 0, {"help"}),
        (["--json", "optimize", "-h"], 0, {"help"}),
        (["--version", "--json"], 0, {"paraexport"}),
    ],
)
def test_json_is_one_object_wherever_it_is_asked_for(run: Run, arguments: list[str], code: int, keys: set[str]) -> None:
    done = run(*arguments)
    assert done.code == code
    assert done.json.keys() == keys
    assert done.json.get("exit_code", 0) == code
    assert len(done.err.splitlines()) == (1 if code else 0)


def test_json_before_the_command_is_json_after_it(run: Run, small_bundle: Bundle) -> None:
    assert run("--json", "inspect", small_bundle.path).json == run("inspect", small_bundle.path, "--json").json


@pytest.mark.parametrize("option", ["-o", "--data", "--calib"])
@pytest.mark.parametrize(("value", "said"), [("", "got an empty text"), ("--force", "write ./--force")])
def test_a_path_that_was_forgotten_is_not_taken_for_another(run: Run, option: str, value: str, said: str) -> None:
    done = run("build", DIGITS, option, value)
    assert done.code == 2
    assert said in done.err


@pytest.mark.parametrize(
    "count", ["0", "-1", "100000", "2147483648", "9223372036854775808", "1e400", "nan", "2.0", "true", "9" * 5000]
)
def test_absurd_counts_are_refused_before_any_work(run: Run, count: str) -> None:
    """None of them may reach a runtime, which hangs while it starts thousands of threads."""
    for arguments in (["predict", "a.bundle", "a.png", "--threads"], ["build", DIGITS, "--max-batch"]):
        done = run(*arguments, count)
        assert done.code == 2
        assert re.fullmatch(r"error: .*(--threads|--max-batch).*\n", done.err)
        assert len(done.err) < 10_000


HOSTILE = "a\n\x1b[31m\x07 \"b'  $c`;#%s{d}"


def test_a_name_can_neither_break_a_line_nor_steer_a_terminal(run: Run, small_bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(small_bundle.path, tmp_path / HOSTILE)
    model = tmp_path / HOSTILE / "model.onnx"
    image = tmp_path / f"{HOSTILE}.png"
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(image)
    good: list[list[object]] = [
        ["inspect", tmp_path / HOSTILE], ["validate", tmp_path / HOSTILE], ["inspect", model],
        ["optimize", model, "-o", tmp_path / f"{HOSTILE}.onnx"], ["predict", tmp_path / HOSTILE, image],
    ]  # fmt: skip
    bad: list[list[object]] = [
        ["inspect", f"{HOSTILE}.pt"], ["predict", tmp_path / HOSTILE, HOSTILE], ["build", HOSTILE], [HOSTILE],
        ["build", DIGITS, "--module", f"{HOSTILE}.py:f"], ["build", DIGITS, "--data", HOSTILE],
    ]  # fmt: skip
    for command in (*good, *bad):
        done = run(*command)
        assert done.code == (2 if command in bad else 0)
        text = done.out + done.err
        assert all(letter.isprintable() for letter in text.replace("\n", ""))
        assert r"\x1b[31m\x07" in text
        if done.code:
            assert done.err.splitlines()[-1].startswith("error: ")
            assert sum("error: " in line for line in done.err.splitlines()) == 1


@pytest.mark.parametrize("place", ["/dev/null", "/proc", "/nonexistent"])
def test_folders_that_cannot_be_written_cost_no_word(digits: Bundle, place: str) -> None:
    image = next(TEST_IMAGES.glob("*/*.png"))
    names = ("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR", "TORCH_HOME", "TMPDIR")
    environment = {**os.environ, **dict.fromkeys(names, place)}
    command = [*PROGRAM, "predict", str(digits.path), str(image), "-q"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert (done.stderr, len(done.stdout.splitlines())) == ("", 1)


def test_a_current_folder_that_is_gone_is_one_line(tmp_path: Path) -> None:
    code = (
        "import os, sys; from paraexport.cli import main\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert re.fullmatch(r"error: the current folder cannot be used \(.*\); go to another one\n", done.stderr)
