"""Which images, in which order, with which labels; and every data set that cannot be used."""

from __future__ import annotations

import hashlib
import random
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from paraexport.dataset import Samples, digest_path, image_files, made_up_samples, open_samples
from paraexport.errors import DataError
from paraexport.spec import Preprocessing

GREY = Preprocessing(image_size=(4, 6), channels=1, resize=(4, 6), mean=(0.0,), std=(1.0,))
RGB = Preprocessing(image_size=(4, 6), channels=3, resize=(4, 6))
LABELS = ("cat", "dog", "eel")


def put(path: Path, grey: int) -> Path:
    """An image of one shade, by which it is known again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (6, 4), grey).save(path)
    return path


def shades(images: NDArray[np.float32]) -> list[int]:
    assert images.dtype == np.float32
    assert images.shape[1:] == (1, 4, 6)
    return [round(float(image.mean()) * 255) for image in images]


def all_shades(samples: Samples, size: int = 2) -> list[int]:
    return [shade for batch in samples.batches(size) for shade in shades(batch)]


def refused(action: Callable[[], object], path: Path | None = None) -> str:
    with pytest.raises(DataError) as caught:
        action()
    message = str(caught.value)
    assert "\n" not in message
    assert caught.value.remedy
    if path is not None:
        assert message.startswith(f"{path}: ")
    return message


def refused_labelled(path: Path, labels: Sequence[str] = LABELS) -> str:
    return refused(lambda: open_samples(path, GREY, labels, need_labels=True), path)


def refused_unlabelled(path: Path, preprocessing: Preprocessing = GREY) -> str:
    return refused(lambda: open_samples(path, preprocessing, LABELS, need_labels=False), path)


# ---- folders ----


def test_labelled_folder(tmp_path: Path) -> None:
    for shade, name in enumerate(["dog/b.png", "cat/10.png", "cat/9.png", "eel/deep/er/a.jpg", "dog/a.PNG"]):
        put(tmp_path / name, shade * 10)
    samples = open_samples(tmp_path, GREY, LABELS, need_labels=True)
    assert all_shades(samples) == [20, 10, 40, 0, 30]  # cat/9, cat/10, dog/a, dog/b, eel
    assert samples.labels is not None
    assert samples.labels.dtype == np.int64
    assert samples.labels.tolist() == [0, 0, 1, 1, 2]
    assert len(samples) == 5
    assert samples.origin == f"5 labelled images from {tmp_path}"
    assert not samples.made_up
    assert samples.unreadable == ()


def test_order_follows_the_classes_and_not_the_names(tmp_path: Path) -> None:
    put(tmp_path / "a" / "0.png", 10)
    put(tmp_path / "b" / "0.png", 20)
    samples = open_samples(tmp_path, GREY, ("b", "a"), need_labels=True)
    assert samples.labels is not None
    assert (all_shades(samples), samples.labels.tolist()) == ([20, 10], [0, 1])


def test_unlabelled_folder_at_any_depth(tmp_path: Path) -> None:
    for shade, name in enumerate(["img2.png", "img10.png", "img1.png", "x/y/z.png", "notes.txt"]):
        put(tmp_path / name, shade * 10) if name.endswith("png") else (tmp_path / name).touch()
    samples = open_samples(tmp_path, GREY, LABELS, need_labels=False)
    assert all_shades(samples) == [20, 0, 10, 30]
    assert samples.labels is None
    assert samples.origin == f"4 images from {tmp_path}"


@pytest.mark.parametrize(
    ("folders", "labels", "expected"),
    [
        (["eel", "cat"], LABELS, {"eel": 2, "cat": 0}),
        (["2", "0"], LABELS, {"2": 2, "0": 0}),
        (["00", "02"], LABELS, {"00": 0, "02": 2}),
        (["0", "1", "2"], ("2", "1", "0"), {"0": 2, "1": 1, "2": 0}),  # a label before a number
        (["n03", "n01", "n02"], LABELS, {"n01": 0, "n02": 1, "n03": 2}),
        (["1", "10", "2"], LABELS, {"1": 0, "10": 1, "2": 2}),  # ImageFolder sorts as text
        (["2"], [str(number) for number in range(10)], {"2": 2}),
    ],
)
def test_classes_of_folders(
    tmp_path: Path, folders: list[str], labels: Sequence[str], expected: dict[str, int]
) -> None:
    for number, folder in enumerate(folders):
        put(tmp_path / folder / "a.png", 20 * number)
    samples = open_samples(tmp_path, GREY, labels, need_labels=True)
    assert samples.labels is not None
    by_shade = dict(zip(all_shades(samples), samples.labels.tolist(), strict=True))
    assert {folder: by_shade[20 * number] for number, folder in enumerate(folders)} == expected


@pytest.mark.parametrize(
    ("folders", "unknown"),
    [
        (["cat", "dgo"], "dgo"),
        (["cat", "dog", "eels"], "eels"),  # in sorted order it would be class 2 by luck, and "bee" class 0 by bad luck
        (["n01", "n02"], "n01, n02"),
        (["0", "3"], "0, 3"),
        (["²", "0"], "0, ²"),
    ],
)
def test_unknown_class_folders(tmp_path: Path, folders: list[str], unknown: str) -> None:
    for folder in folders:
        put(tmp_path / folder / "a.png", 0)
    message = refused_labelled(tmp_path)
    assert f"unknown {unknown})" in message
    assert "expected folders named cat, dog, eel, or 0..2" in message
    assert "rename the folders or correct the labels" in message


def test_many_unknown_class_folders_stay_one_short_line(tmp_path: Path) -> None:
    for number in range(100, 130):
        put(tmp_path / f"n{number}" / "a.png", 0)
    message = refused_labelled(tmp_path, [f"label {number}" for number in range(1000)])
    assert "and 22 more" in message
    assert "and 992 more" in message


def test_a_label_of_two_classes(tmp_path: Path) -> None:
    put(tmp_path / "crane" / "a.png", 0)
    message = refused_labelled(tmp_path, ("crane", "crane", "dog"))
    assert "several classes share: crane" in message
    assert "name the folders by class number" in message


def test_no_class_folders(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0)
    message = refused_labelled(tmp_path)
    assert "expected one subfolder a class, got 1 image and no subfolder" in message
    assert "sort them by class" in message


def test_an_image_outside_the_class_folders_is_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png", 10)
    put(tmp_path / "montage.png", 90)
    samples = open_samples(tmp_path, GREY, LABELS, need_labels=True)
    assert all_shades(samples) == [10]
    assert samples.unreadable == (f"{tmp_path / 'montage.png'}: lies in no class folder",)


def test_unreadable_images_shift_no_label(tmp_path: Path) -> None:
    for shade, name in enumerate(["cat/a.png", "cat/b.png", "dog/a.png", "dog/b.png", "eel/a.png"]):
        put(tmp_path / name, 10 * shade)
    (tmp_path / "cat/b.png").write_text("no image")
    whole = (tmp_path / "dog/a.png").read_bytes()
    (tmp_path / "dog/a.png").write_bytes(whole[: len(whole) - 25])
    samples = open_samples(tmp_path, GREY, LABELS, need_labels=True)
    assert samples.labels is not None
    assert (all_shades(samples), samples.labels.tolist()) == ([0, 30, 40], [0, 1, 2])
    first, second = samples.unreadable
    assert first.startswith(f"{tmp_path / 'cat/b.png'}: not an image")
    assert second.startswith(f"{tmp_path / 'dog/a.png'}: the image is truncated or damaged")
    assert samples.origin.startswith("3 labelled images")


def test_an_image_too_small_for_the_crop_is_skipped(tmp_path: Path) -> None:
    put(tmp_path / "good.png", 10)
    Image.new("L", (4, 4)).save(tmp_path / "small.png")
    samples = open_samples(tmp_path, Preprocessing(image_size=(4, 6), channels=1, resize=4), LABELS, need_labels=False)
    assert len(samples) == 1
    assert "smaller than the crop" in samples.unreadable[0]


@pytest.mark.parametrize("need_labels", [True, False])
def test_all_images_unreadable(tmp_path: Path, need_labels: bool) -> None:
    for name in ("a", "b"):
        put(tmp_path / "cat" / f"{name}.png", 0).write_text("no image")
    message = refused(lambda: open_samples(tmp_path, GREY, LABELS, need_labels=need_labels), tmp_path)
    assert "none of 2 images can be used" in message
    assert str(tmp_path / "cat" / "a.png") in message


def test_an_image_damaged_after_opening_is_an_error(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0)
    samples = open_samples(tmp_path, GREY, LABELS, need_labels=False)
    (tmp_path / "a.png").unlink()
    assert "there is no such file" in refused(lambda: next(samples.batches(1)), tmp_path / "a.png")
    assert "cannot be read" in refused(samples.digest, tmp_path / "a.png")


@pytest.mark.parametrize("need_labels", [True, False])
def test_empty_folder(tmp_path: Path, need_labels: bool) -> None:
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.txt").touch()
    message = refused(lambda: open_samples(tmp_path, GREY, LABELS, need_labels=need_labels), tmp_path)
    assert "no images (expected files .bmp" in message
    assert "check the path" in message


def test_missing_path(tmp_path: Path) -> None:
    assert "there is no such file or folder; check the path" in refused_unlabelled(tmp_path / "none")
    assert "there is no such file or folder" in refused(lambda: image_files(tmp_path / "none"), tmp_path / "none")
    assert "check the path" in refused(lambda: digest_path(tmp_path / "none"), tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "got"), [("a.png", "a file .png"), ("data.csv", ".csv"), ("data", "without a suffix")]
)
def test_wrong_suffix(tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    message = refused_unlabelled(tmp_path / name)
    assert "expected a folder of images, .npy or .npz" in message
    assert got in message


def test_image_files(tmp_path: Path) -> None:
    for name in ["10.png", "9.png", "b/2.jpg", "b/1.jpg", ".hidden.png", ".ipynb_checkpoints/9.png", "a1/x.webp"]:
        put(tmp_path / name, 0)
    (tmp_path / "notes.txt").touch()
    found = [path.relative_to(tmp_path).as_posix() for path in image_files(tmp_path)]
    assert found == ["9.png", "10.png", "a1/x.webp", "b/1.jpg", "b/2.jpg"]
    assert image_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a.png", 10)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "dog").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "dog" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    samples = open_samples(tmp_path / "set", GREY, LABELS, need_labels=True)
    assert samples.labels is not None
    assert set(samples.labels.tolist()) == {0, 1}
    assert all("broken.png: there is no such file" in line for line in samples.unreadable)
    assert samples.unreadable
    assert digest_path(tmp_path / "set")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 2000), min_size=1, max_size=20, unique=True), st.randoms())
def test_natural_order_is_numeric(numbers: list[int], shuffler: random.Random) -> None:
    from paraexport.dataset import _natural

    names = [f"img{number}.png" for number in numbers]
    shuffler.shuffle(names)
    assert sorted(names, key=_natural) == [f"img{number}.png" for number in sorted(numbers)]


# ---- arrays ----


def numbered(count: int) -> NDArray[np.uint8]:
    return np.repeat(np.arange(count, dtype=np.uint8), 24).reshape(count, 4, 6, 1)


def test_npy_of_pixels_is_mapped_and_preprocessed(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(5))
    samples = open_samples(tmp_path / "a.npy", GREY, LABELS, need_labels=False)
    assert isinstance(samples.source.images, np.memmap)  # type: ignore[attr-defined]
    assert all_shades(samples) == [0, 1, 2, 3, 4]
    assert samples.origin == f"5 images from {tmp_path / 'a.npy'}"
    np.save(tmp_path / "b.npy", numbered(5)[..., 0])
    assert all_shades(open_samples(tmp_path / "b.npy", GREY, LABELS, need_labels=False)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4"])
def test_float32_is_preprocessed_already(tmp_path: Path, dtype: str, order: str) -> None:
    images = np.random.default_rng(0).normal(size=(5, 3, 4, 6)).astype(dtype)
    np.save(tmp_path / "a.npy", np.asfortranarray(images) if order == "F" else images)
    samples = open_samples(tmp_path / "a.npy", RGB, LABELS, need_labels=False)
    batches = list(samples.batches(2))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert all(batch.dtype == np.dtype(np.float32) and batch.dtype.isnative for batch in batches)
    np.testing.assert_array_equal(np.concatenate(batches), images)


def test_pixels_are_resized_and_normalised(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), np.uint8)
    np.save(tmp_path / "a.npy", images)
    got = open_samples(tmp_path / "a.npy", RGB, LABELS, need_labels=False).pick(2)
    for image, tensor in zip(images, got, strict=True):
        resized = np.asarray(Image.fromarray(image).resize((6, 4), Image.Resampling.BILINEAR))
        np.testing.assert_allclose(tensor, (resized.transpose(2, 0, 1) / 255.0 - 0.5) / 0.5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_npz_with_labels(tmp_path: Path, dtype: type[np.integer]) -> None:
    np.savez(tmp_path / "a.npz", images=numbered(4), labels=np.array([2, 0, 1, 1], dtype))
    samples = open_samples(tmp_path / "a.npz", GREY, LABELS, need_labels=True)
    assert samples.labels is not None
    assert samples.labels.dtype == np.int64
    assert samples.labels.tolist() == [2, 0, 1, 1]
    assert samples.origin == f"4 labelled images from {tmp_path / 'a.npz'}"
    assert open_samples(tmp_path / "a.npz", GREY, LABELS, need_labels=False).labels is None


@pytest.mark.parametrize(
    ("labels", "got"),
    [
        ([0, 1, 3, 0], "values in 0..3"),
        ([0, -1, 2, 0], "values in -1..2"),
        ([0, 1, 2], r"int64 [3]"),
        ([0.0, 1.0, 2.0, 0.0], "float64 [4]"),
        ([True, False, True, True], "bool [4]"),
        (np.eye(4, 3, dtype=np.int64), "int64 [4, 3]"),
        (None, "got none"),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, labels: object, got: str) -> None:
    arrays = {"images": numbered(4)} | ({} if labels is None else {"labels": np.array(labels)})
    np.savez(tmp_path / "a.npz", **arrays)
    message = refused_labelled(tmp_path / "a.npz")
    assert "expected 4 integers in 0..2, one an image" in message
    assert got in message
    assert "numpy.savez" in message


def test_npy_has_no_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(4))
    assert "got none" in refused_labelled(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("images", "got"),
    [
        (np.zeros((2, 3, 4, 6)), "float64 [2, 3, 4, 6]"),
        (np.zeros((2, 3, 4, 6), np.float16), "float16"),
        (np.zeros((2, 3, 5, 6), np.float32), "float32 [2, 3, 5, 6]"),
        (np.zeros((2, 4, 6, 3), np.float32), "float32 [2, 4, 6, 3]"),
        (np.zeros((3, 4, 6), np.float32), "float32 [3, 4, 6]"),
        (np.zeros((2, 3, 4, 6), np.uint8), "uint8 [2, 3, 4, 6]"),
        (np.zeros((2, 4, 6), np.uint8), "uint8 [2, 4, 6]"),
        (np.zeros((2, 0, 6, 3), np.uint8), "uint8 [2, 0, 6, 3]"),
        (np.zeros((2, 4, 6, 3), np.int64), "int64"),
        (np.zeros((0, 3, 4, 6), np.float32), "float32 [0, 3, 4, 6]"),
        (np.zeros((0, 4, 6, 3), np.uint8), "uint8 [0, 4, 6, 3]"),
        (np.float32(1.0), "float32 []"),
        (np.array(["a"]), "<U1 [1]"),
    ],
)
def test_images_that_do_not_fit(tmp_path: Path, images: NDArray[np.generic], got: str) -> None:
    np.save(tmp_path / "a.npy", images)
    message = refused_unlabelled(tmp_path / "a.npy", RGB)
    assert "expected at least one of float32 [N, 3, 4, 6] or uint8 [N, H, W, 3]" in message
    assert f"got {got}" in message
    assert "convert the array" in message


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(tmp_path: Path, value: float) -> None:
    images = np.zeros((5, 3, 4, 6), np.float32)
    images[3, 1, 2, 2] = value
    np.save(tmp_path / "a.npy", images)
    message = refused_unlabelled(tmp_path / "a.npy", RGB)
    assert "image 3 has values that are not finite" in message
    assert "prepare it again" in message


def test_non_finite_values_far_into_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("paraexport.dataset._CHUNK_BYTES", 1000)
    images = np.zeros((50, 3, 4, 6), np.float32)
    images[43] = np.nan
    np.save(tmp_path / "a.npy", images)
    assert "image 43 " in refused_unlabelled(tmp_path / "a.npy", RGB)


def test_pixels_smaller_than_the_crop(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4, 1), np.uint8))
    small = Preprocessing(image_size=(4, 6), channels=1, resize=4)
    assert "smaller than the crop" in refused_unlabelled(tmp_path / "a.npy", small)


@pytest.mark.parametrize("content", [b"", b"no array", b"PK\x03\x04 no archive", b"\x93NUMPY\x01\x00\xff"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_broken_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    message = refused_unlabelled(tmp_path / name)
    assert "not a NumPy file of plain arrays" in message
    assert "numpy.save or numpy.savez" in message


@pytest.mark.parametrize("save", [np.save, lambda path, array: np.savez(path, images=array)])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_pickles_are_refused(tmp_path: Path, suffix: str, save: Callable[[Path, object], None]) -> None:
    with (tmp_path / f"a.{suffix}").open("wb") as file:
        save(file, np.array([{"a": 1}], object))  # type: ignore[arg-type]
    assert "not a NumPy file of plain arrays" in refused_unlabelled(tmp_path / f"a.{suffix}")


def test_truncated_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(5))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data[:-7])
    assert "not a NumPy file" in refused_unlabelled(tmp_path / "a.npy")


@pytest.mark.parametrize("names", [("x", "y"), ("labels",), ("images", "labels", "split"), ()])
def test_wrong_arrays_in_npz(tmp_path: Path, names: tuple[str, ...]) -> None:
    arrays: dict[str, Any] = {name: numbered(1) for name in names}
    np.savez(tmp_path / "a.npz", **arrays)
    message = refused_labelled(tmp_path / "a.npz")
    assert "wrong arrays in the file" in message
    assert f"got {', '.join(names) or 'none'}" in message
    assert "numpy.savez(path, images=..., labels=...)" in message


# ---- reading ----


@given(count=st.integers(1, 40), size=st.integers(1, 50))
def test_batches_cover_all_once_in_order(count: int, size: int) -> None:
    samples = made_up_samples(GREY, count)
    batches = list(samples.batches(size))
    assert all(len(batch) == size for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(batches), samples.pick(count))


@given(total=st.integers(1, 60), count=st.integers(1, 80))
def test_pick_is_evenly_spaced(total: int, count: int) -> None:
    from paraexport.dataset import _Array

    pixels = np.repeat(np.arange(total, dtype=np.uint8), 24).reshape(total, 4, 6, 1)
    picked = shades(Samples("", None, True, (), _Array(pixels, GREY)).pick(count))
    gaps = np.diff(picked)
    assert len(picked) == min(total, count)
    assert len(gaps) == 0 or (gaps.min() >= 1 and gaps.max() - gaps.min() <= 1)


def test_pick_spreads_over_classes(tmp_path: Path) -> None:
    for shade, label in enumerate(LABELS):
        for number in range(5):
            put(tmp_path / label / f"{number}.png", 50 * shade + number)
    picked = shades(open_samples(tmp_path, GREY, LABELS, need_labels=True).pick(3))
    assert [shade // 50 for shade in picked] == [0, 1, 2]


def test_batches_stream(tmp_path: Path) -> None:
    """The second image may be destroyed while the first batch is being used."""
    for number in range(2):
        put(tmp_path / f"{number}.png", number)
    batches = open_samples(tmp_path, GREY, LABELS, need_labels=False).batches(1)
    next(batches)
    (tmp_path / "1.png").unlink()
    refused(lambda: next(batches), tmp_path / "1.png")


@pytest.mark.parametrize("number", [0, -1])
def test_at_least_one(number: int) -> None:
    samples = made_up_samples(GREY, 2)
    with pytest.raises(ValueError, match=f"batch size is {number}, expected at least 1"):
        next(samples.batches(number))
    with pytest.raises(ValueError, match=f"count is {number}, expected at least 1"):
        samples.pick(number)
    with pytest.raises(ValueError, match=f"count is {number}, expected at least 1"):
        made_up_samples(GREY, number)


# ---- digests ----


def test_digest_of_a_file_is_its_sha256(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    assert digest_path(tmp_path / "a.npz") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_of_a_folder(tmp_path: Path) -> None:
    for name, content in {"b.png": b"2", "a/c.txt": b"1", ".hidden": b"3"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    expected = hashlib.sha256()
    for name, content in (("a/c.txt", b"1"), ("b.png", b"2")):
        expected.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    assert digest_path(tmp_path) == expected.hexdigest()


def test_digest_path_sees_names_and_contents(tmp_path: Path) -> None:
    put(tmp_path / "x" / "a.png", 1)
    shutil.copytree(tmp_path / "x", tmp_path / "y")
    same = digest_path(tmp_path / "x")
    assert digest_path(tmp_path / "y") == same
    put(tmp_path / "y" / "a.png", 2)
    changed = digest_path(tmp_path / "y")
    (tmp_path / "y" / "a.png").rename(tmp_path / "y" / "b.png")
    assert len({same, changed, digest_path(tmp_path / "y")}) == 3


def test_digest_of_samples_sees_all_that_matters(tmp_path: Path) -> None:
    def folder(name: str, shade: int, label: str = "cat") -> Path:
        put(tmp_path / name / "cat" / "0.png", 5)
        put(tmp_path / name / label / "1.png", shade)
        return tmp_path / name

    def digest(path: Path, preprocessing: Preprocessing = GREY, need_labels: bool = True) -> str:
        return open_samples(path, preprocessing, LABELS, need_labels=need_labels).digest()

    first = folder("one", 1)
    darker = Preprocessing(image_size=(4, 6), channels=1, resize=(4, 6), mean=(0.1,), std=(1.0,))
    assert digest(first) == digest(folder("twin", 1))  # wherever they lie
    np.save(tmp_path / "pixels.npy", numbered(2))
    np.save(tmp_path / "other.npy", numbered(2)[::-1])
    np.save(tmp_path / "ready.npy", numbered(2).astype(np.float32).reshape(2, 1, 4, 6))
    arrays = [digest(tmp_path / name, need_labels=False) for name in ("pixels.npy", "other.npy", "ready.npy")]
    different = [
        digest(first),
        digest(first, need_labels=False),
        digest(folder("shade", 2)),
        digest(folder("label", 1, "dog")),
        digest(first, darker),
        *arrays,
        open_samples(tmp_path / "pixels.npy", darker, LABELS, need_labels=False).digest(),
        made_up_samples(GREY).digest(),
        made_up_samples(GREY, seed=1).digest(),
        made_up_samples(GREY, 31).digest(),
    ]
    assert len(set(different)) == len(different)
    assert all(len(value) == 64 for value in different)


def test_digest_does_not_depend_on_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", numbered(50))
    samples = open_samples(tmp_path / "a.npy", GREY, LABELS, need_labels=False)
    whole = samples.digest()
    monkeypatch.setattr("paraexport.dataset._CHUNK_BYTES", 100)
    assert samples.digest() == whole


# ---- made up ----


def test_made_up_images_fill_the_preprocessed_range() -> None:
    preprocessing = Preprocessing(image_size=(32, 24), channels=3, resize=48, mean=(0.5,), std=(0.2,))
    samples = made_up_samples(preprocessing)
    images = samples.pick(32)
    assert images.shape == (32, 3, 32, 24)
    assert samples.origin == "32 made-up images (seed 0)"
    assert samples.made_up
    assert samples.labels is None
    # black is (0 - 0.5)/0.2 and white (1 - 0.5)/0.2; noise of 2304 pixels misses either at once in 4000
    np.testing.assert_allclose(images.reshape(32, -1).min(axis=1), -2.5, atol=0.06)
    np.testing.assert_allclose(images.reshape(32, -1).max(axis=1), 2.5, atol=0.06)
    assert len({image.tobytes() for image in images}) == 32


def test_made_up_images_are_noise_slopes_and_blobs() -> None:
    noise, slope, blob = made_up_samples(
        Preprocessing(image_size=(64, 64), channels=1, resize=64, mean=(0.0,), std=(1.0,)), 3
    ).pick(3)[:, 0]
    steps = [float(np.abs(np.diff(image, axis=1)).mean()) for image in (noise, slope, blob)]
    assert abs(steps[0] - 1 / 3) < 0.02  # E|a - b| of two uniform numbers
    assert steps[1] <= 1 / 63 + 2 / 255
    assert steps[2] < 0.1


def test_made_up_images_are_the_same_everywhere() -> None:
    """The noise is the top byte of PCG64's raw stream after three numbers a channel, which NumPy keeps fixed."""
    first = made_up_samples(GREY, 1, seed=7).pick(1)
    expected = (np.random.PCG64(7).random_raw(24 + 3)[3:] >> np.uint64(56)).reshape(1, 1, 4, 6) / 255
    np.testing.assert_allclose(first, expected, atol=1e-7)
    assert made_up_samples(GREY, 32).digest() == made_up_samples(GREY, 32).digest()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_made_up_images_of_one_pixel(channels: int) -> None:
    images = made_up_samples(Preprocessing(image_size=(1, 1), channels=channels, resize=1), 4).pick(4)
    assert images.shape == (4, channels, 1, 1)
    assert np.isfinite(images).all()
