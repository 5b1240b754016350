"""Files of a cache are written whole, and a cache that cannot be written ends no build."""

from __future__ import annotations

from pathlib import Path

from paraexport.targets.cached_file import write_cached


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    file = tmp_path / "timing/L4.cache"
    write_cached(file, b"older")
    write_cached(file, b"timed")
    assert file.read_bytes() == b"timed"
    assert [*file.parent.iterdir()] == [file]


def test_a_folder_that_cannot_exist_is_ignored(tmp_path: Path) -> None:
    file = tmp_path / "L4.cache"
    write_cached(file, b"timed")
    write_cached(file / "a file is not a folder" / "L4.cache", b"other")
    assert file.read_bytes() == b"timed"
