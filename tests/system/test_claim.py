"""One build at a time for each output, and what a killed one left is repaired and removed by the next."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from paraexport.errors import OutputError
from paraexport.system.claim import NAME, OLD, claim, lock_of, moved_aside, repair, tag_of, take

HOLD = """
import sys, time
from pathlib import Path
from paraexport.system.claim import claim
with claim(Path(sys.argv[1])) as claimed, claimed.workspace("it") as work:
    (work / "half").write_text("half")
    print("working", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def working(output: Path) -> subprocess.Popen[str]:
    """A process that is making `output`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(output)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    return process


def left_by_a_killed_build(output: Path, *, moved: bool = False) -> Path:
    """What a build leaves that is killed; `moved`: between its two renames."""
    work = output.parent / f".paraexport-{tag_of(output)}-abcd"
    (work / "new").mkdir(parents=True)
    (work / NAME).write_bytes(os.fsencode(output.name))
    lock_of(output.parent, tag_of(output)).touch()
    if moved:
        output.rename(work / OLD)
    return work


def test_a_killed_process_leaves_nothing_once_another_output_is_made_beside(tmp_path: Path) -> None:
    process = working(tmp_path / "a.bundle")
    process.kill()
    process.communicate()
    assert len(names(tmp_path)) == 2  # the lock and the folder
    with claim(tmp_path / "b.bundle"):
        assert names(tmp_path) == [lock_of(tmp_path, tag_of(tmp_path / "b.bundle")).name]
    assert names(tmp_path) == []


def test_what_a_living_process_makes_is_left_alone(tmp_path: Path) -> None:
    process = working(tmp_path / "a.bundle")
    before = names(tmp_path)
    with claim(tmp_path / "b.bundle"):
        pass
    assert names(tmp_path) == before
    process.kill()
    process.communicate()


def test_folders_that_merely_look_alike_are_left_alone(tmp_path: Path) -> None:
    kept = [".paraexport", ".paraexport-notes", ".paraexport-0123456789ab.old", ".a.bundle.x1y2", "paraexport-cache"]
    for name in kept:
        (tmp_path / name).mkdir()
    with claim(tmp_path / "a.bundle"):
        pass
    assert names(tmp_path) == sorted(kept)


@pytest.mark.parametrize("beside", ["a.bundle", "b.bundle"])
def test_what_was_moved_aside_comes_back(beside: str, tmp_path: Path) -> None:
    output = tmp_path / "a.bundle"
    output.mkdir()
    (output / "old").touch()
    work = left_by_a_killed_build(output, moved=True)
    assert moved_aside(output) == work / OLD
    with claim(tmp_path / beside):
        assert names(output) == ["old"]
    assert names(tmp_path) == ["a.bundle"]


def test_a_reader_repairs_it_too(tmp_path: Path) -> None:
    output = tmp_path / "a.bundle"
    output.mkdir()
    left_by_a_killed_build(output, moved=True)
    repair(output)
    assert names(tmp_path) == ["a.bundle"]


def test_what_came_to_the_place_meanwhile_stays(tmp_path: Path) -> None:
    output = tmp_path / "a.bundle"
    output.mkdir()
    left_by_a_killed_build(output, moved=True)
    output.mkdir()
    (output / "newer").touch()
    with claim(output):
        pass
    assert names(tmp_path) == ["a.bundle"]
    assert names(output) == ["newer"]


def test_a_name_in_a_forged_workspace_leads_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    output = tmp_path / "folder/a.bundle"
    output.mkdir()
    work = left_by_a_killed_build(output, moved=True)
    (work / NAME).write_bytes(b"../elsewhere")
    with claim(output):
        pass
    assert names(tmp_path) == ["folder"]


def test_the_second_waits_for_the_first(tmp_path: Path) -> None:
    output, order = tmp_path / "a.bundle", []
    waiting = threading.Event()

    def second() -> None:
        with claim(output, waiting.set) as claimed:
            order.append(("second", claimed.waited))

    thread = threading.Thread(target=second)
    with claim(output) as claimed:
        thread.start()
        assert waiting.wait(10)
        time.sleep(0.2)
        order.append(("first", claimed.waited))
    thread.join(10)
    assert order == [("first", False), ("second", True)]
    assert names(tmp_path) == []


def test_the_lock_of_a_file_that_was_removed_counts_for_nothing(tmp_path: Path) -> None:
    lock = lock_of(tmp_path, "0123456789ab")
    first = take(lock)
    assert first is not None
    assert take(lock) is None
    lock.unlink()
    second = take(lock)
    assert second is not None
    os.close(first)
    os.close(second)


@pytest.mark.parametrize("name", ["a" * 255, "é" * 127, b"\xff".decode("utf-8", "surrogateescape") * 255])
def test_a_name_may_be_as_long_as_the_system_allows(name: str, tmp_path: Path) -> None:
    with claim(tmp_path / name) as claimed, claimed.workspace("it") as work:
        (work / "x").touch()
        work.rename(tmp_path / name)
    assert names(tmp_path) == [name]


def test_folders_that_were_made_in_vain_go(tmp_path: Path) -> None:
    with claim(tmp_path / "a/b/c.bundle"):
        assert (tmp_path / "a/b").is_dir()
    assert names(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_an_error_of_the_output(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="the output cannot be written"), claim(tmp_path / "a.bundle"):
        pass


def test_a_file_in_the_place_of_a_folder_is_an_error_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="the output cannot be written"), claim(tmp_path / "file/a.bundle"):
        pass
