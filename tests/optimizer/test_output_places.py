"""Where a bundle may go, and two builds of the same one at once."""

import threading
from pathlib import Path

import pytest

import paraexport
from paraexport.bundle import read_bundle
from paraexport.errors import OutputError
from paraexport.system.files import without_dots

LONGEST = "n" * 255


def test_a_folder_that_is_not_there_may_be_left_again_and_a_name_be_the_longest(small: Path, tmp_path: Path) -> None:
    built = paraexport.build(small, tmp_path / "nowhere" / ".." / LONGEST, max_batch=5)
    assert built.path == tmp_path / LONGEST
    assert read_bundle(tmp_path / LONGEST).manifest == built.manifest
    assert [entry.name for entry in tmp_path.iterdir()] == [LONGEST]
    stages: list[str] = []
    paraexport.build(small, tmp_path / "nowhere" / ".." / LONGEST, max_batch=5, progress=stages.append)
    assert stages == ["unchanged"]


@pytest.mark.parametrize("name", ["n" * 256, "a/" + "n" * 300])
def test_a_name_that_is_too_long_is_refused_before_any_work(name: str, small: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    with pytest.raises(OutputError, match="File name too long"):
        paraexport.build(small, tmp_path / name, progress=stages.append)
    assert stages == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "expected"),
    [("a/../b", "b"), ("a/b/../../c", "c"), ("link/../b", "elsewhere/b"), ("..", ".."), ("a/..", "."), ("a/b", "a/b")],
)
def test_dots_lead_where_the_system_says(path: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere/folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to("elsewhere/folder")
    assert without_dots(tmp_path / path) == (tmp_path / expected).resolve()


def test_of_two_equal_builds_at_once_the_second_reuses_the_bundle(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.bundle"
    stages: tuple[list[str], list[str]] = ([], [])

    def build(kept: list[str]) -> None:
        paraexport.build(small, output, max_batch=5, progress=kept.append)

    threads = [threading.Thread(target=build, args=(kept,)) for kept in stages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = sorted(stages, key=len, reverse=True)
    assert first[-1] == "bundle"
    assert second == [f"waiting for another build of {output}", "unchanged"]
