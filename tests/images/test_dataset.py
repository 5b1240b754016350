"""Which images, in which order, with which labels; and every data set that cannot be used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from paraexport.errors import DataError
from paraexport.images.arrays import ArraySource
from paraexport.images.dataset import Samples, open_samples
from paraexport.images.made_up import made_up_samples
from paraexport.model.spec import Preprocessing

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
    assert samples.origin == f"5 labelled images from {tmp_path.name}"
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
    assert samples.origin == f"4 images from {tmp_path.name}"


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
    ("folders", "names", "expected"),
    [
        (["0", "1"], ("0", "1"), {"0": 0, "1": 1}),
        (["dog", "cat"], ("", "dog"), {"cat": 0, "dog": 1}),
        (["cat", "dog"], ("", "cat"), {"cat": 1, "dog": 0}),
        (["no", "yes"], ("", "cat"), {"no": 0, "yes": 1}),
        (["cat", "dog"], ("dog", "cat"), {"cat": 1, "dog": 0}),
    ],
)
def test_class_folders_of_a_model_with_one_output(
    tmp_path: Path, folders: list[str], names: Sequence[str], expected: dict[str, int]
) -> None:
    for folder in folders:
        put(tmp_path / folder / "a.png", 0)
    assert open_samples(tmp_path, GREY, names, need_labels=True).folders == expected


def test_folders_that_are_no_labels_are_taken_in_sorted_order_and_that_is_reported(tmp_path: Path) -> None:
    for folder in ("n1", "n10", "n2"):
        put(tmp_path / folder / "a.png", 0)
    (note,) = open_samples(tmp_path, GREY, LABELS, need_labels=True).notes
    assert note.endswith("so they are numbered in string order: n1 is cat, n10 is dog, n2 is eel")


def test_without_every_fourth_image(tmp_path: Path) -> None:
    for shade in range(10):
        put(tmp_path / "cat" / f"{shade}.png", 10 * shade)
    samples = open_samples(tmp_path, GREY, LABELS, need_labels=True)
    rest = samples.without_each(4)
    assert all_shades(rest) == [0, 10, 20, 40, 50, 60, 80, 90]
    assert rest.labels is not None
    assert rest.labels.tolist() == [0] * 8
    assert rest.origin == f"8 of 10 labelled images from {tmp_path.name}"
    assert rest.digest() not in {samples.digest(), samples.without_each(5).digest()}


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
    assert f"with such names, and {unknown})" in message
    assert "expected folders named cat, dog, eel, or 0..2" in message
    assert "rename the folders, or name the classes with --spec labels=FILE" in message


def test_many_unknown_class_folders_stay_one_short_line(tmp_path: Path) -> None:
    for number in range(100, 130):
        put(tmp_path / f"n{number}" / "a.png", 0)
    message = refused_labelled(tmp_path, [f"label {number}" for number in range(1000)])
    assert "and 22 more" in message
    assert "and 992 more" in message


def test_a_label_of_two_classes(tmp_path: Path) -> None:
    put(tmp_path / "crane" / "a.png", 0)
    message = refused_labelled(tmp_path, ("crane", "crane", "dog"))
    assert "several classes share these labels: crane" in message
    assert "name the folders after the class numbers" in message


def test_no_class_folders(tmp_path: Path) -> None:
    put(tmp_path / "a.png", 0)
    message = refused_labelled(tmp_path)
    assert "expected one subfolder for each class, got 1 image and no subfolder" in message
    assert "sort the images into one folder for each class" in message


def test_an_image_outside_the_class_folders_is_named(tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.png", 10)
    put(tmp_path / "montage.png", 90)
    samples = open_samples(tmp_path, GREY, LABELS, need_labels=True)
    assert all_shades(samples) == [10]
    assert samples.unreadable == ("montage.png: not in a class folder",)


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
    assert first.startswith("cat/b.png: not an image")
    assert second.startswith("dog/a.png: the image is truncated or damaged")
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
    assert f"{tmp_path}: none of 2 images can be used" in message
    assert "got cat/a.png: " in message


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


@pytest.mark.parametrize(
    ("name", "got"), [("a.png", "a file .png"), ("data.csv", ".csv"), ("data", "without a suffix")]
)
def test_wrong_suffix(tmp_path: Path, name: str, got: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    message = refused_unlabelled(tmp_path / name)
    assert "expected a folder of images, .npy or .npz" in message
    assert got in message


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


# ---- arrays ----


def numbered(count: int) -> NDArray[np.uint8]:
    return np.repeat(np.arange(count, dtype=np.uint8), 24).reshape(count, 4, 6, 1)


def test_array_without_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", numbered(5))
    samples = open_samples(tmp_path / "a.npy", GREY, LABELS, need_labels=False)
    assert all_shades(samples) == [0, 1, 2, 3, 4]
    assert samples.labels is None
    assert samples.origin == "5 images from a.npy"
    assert not samples.made_up
    assert samples.unreadable == ()


def test_array_with_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=numbered(4), labels=np.array([2, 0, 1, 1]))
    samples = open_samples(tmp_path / "a.npz", GREY, LABELS, need_labels=True)
    assert samples.labels is not None
    assert (all_shades(samples), samples.labels.tolist()) == ([0, 1, 2, 3], [2, 0, 1, 1])
    assert samples.origin == "4 labelled images from a.npz"


def test_array_with_more_labels_than_classes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=numbered(4), labels=np.arange(4))
    assert "expected 4 integers in 0..2" in refused_labelled(tmp_path / "a.npz")


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
    picked = shades(Samples("", None, True, (), ArraySource(numbered(total), GREY)).pick(count))
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
