"""The files that count as images, their order, and the changes that change a digest."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from paraexport.errors import DataError
from paraexport.images.files import image_files
from paraexport.system.files import cache_folder, digest_path, natural


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_image_files(tmp_path: Path) -> None:
    for name in ["10.png", "9.png", "b/2.jpg", "b/1.jpg", ".hidden.png", ".ipynb_checkpoints/9.png", "a1/x.webp"]:
        put(tmp_path / name, b"")
    (tmp_path / "notes.txt").touch()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["9.png", "10.png", "a1/x.webp", "b/1.jpg", "b/2.jpg"]
    assert image_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a.png", b"")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "real" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    found = {path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path / "set")}
    assert {"set/cat/a.png", "set/cat/broken.png"} <= found
    assert digest_path(tmp_path / "set")


@pytest.mark.parametrize(
    ("action", "problem"), [(image_files, "there is no such file or folder"), (digest_path, "cannot be read")]
)
def test_missing_path(tmp_path: Path, action: Callable[[Path], object], problem: str) -> None:
    with pytest.raises(DataError) as caught:
        action(tmp_path / "none")
    assert str(caught.value).startswith(f"{tmp_path / 'none'}: {problem}")
    assert caught.value.remedy == "check the path"


def test_no_images(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.txt", b"")
    with pytest.raises(DataError, match=r"no images \(expected files .bmp"):
        image_files(tmp_path)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=20, unique=True), st.randoms())
def testnatural_order_is_numeric(numbers: list[int], shuffler: random.Random) -> None:
    names = [f"img{number}.png" for number in numbers]
    shuffler.shuffle(names)
    assert sorted(names, key=natural) == [f"img{number}.png" for number in sorted(numbers)]


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert digest_path(tmp_path / "a.npz") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_of_a_folder(tmp_path: Path) -> None:
    for name, content in {"b.png": b"2", "a/c.txt": b"1", ".hidden": b"3"}.items():
        put(tmp_path / name, content)
    expected = hashlib.sha256()
    for name, content in (("a/c.txt", b"1"), ("b.png", b"2")):
        expected.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    assert digest_path(tmp_path) == expected.hexdigest()


def test_digest_path_sees_names_and_contents(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a.png", b"1")
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    same = digest_path(tmp_path / "x")
    assert digest_path(tmp_path / "y") == same
    put(tmp_path / "y" / "a.png", b"2")
    changed = digest_path(tmp_path / "y")
    (tmp_path / "y" / "a.png").rename(tmp_path / "y" / "b.png")
    assert len({same, changed, digest_path(tmp_path / "y")}) == 3


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    entries = Path.iterdir

    def iterdir(folder: Path) -> Iterator[Path]:
        if folder == closed:  # root may read everything, so that permissions prove nothing
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        return entries(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    with pytest.raises(DataError, match=re.escape(f"{closed}: cannot be read")):
        image_files(tmp_path)


@pytest.mark.parametrize("given", ["", "relative/cache"])
def test_the_cache_is_in_the_home_folder_unless_an_absolute_place_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """The XDG specification requires that relative paths are ignored."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert cache_folder("a") == tmp_path / ".cache/paraexport/a"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert cache_folder("a") == tmp_path / "c/paraexport/a"


def test_without_a_home_folder_there_is_a_cache_that_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nobody)
    with pytest.raises(OSError, match="Not a directory"):
        cache_folder("a").mkdir(parents=True)
