"""Labels from Python: image files and pixels, one and several, good and bad."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import paraexport
from paraexport.bundle import Bundle
from paraexport.errors import DataError, InputError
from tests.conftest import LABELS


@pytest.fixture(scope="module")
def engine(small_bundle: Bundle) -> paraexport.Engine:
    return paraexport.load(small_bundle.path)


def pixels(number: int) -> np.ndarray:
    height, width = 8, 12
    return np.random.default_rng(number).integers(0, 256, (height, width), np.uint8)


def test_predictions_are_the_softmax_of_what_the_engine_answers(engine: paraexport.Engine, tmp_path: Path) -> None:
    pictures = [pixels(number) for number in range(7)]
    files = [tmp_path / f"{number}.png" for number in range(7)]
    for picture, file in zip(pictures, files, strict=True):
        Image.fromarray(picture).save(file)
    (mean,), (std,) = engine.manifest.preprocessing.mean, engine.manifest.preprocessing.std
    by_hand = (np.stack(pictures)[:, None] / 255 - mean) / std
    np.testing.assert_allclose(engine.preprocess(files), by_hand, atol=1e-6)
    np.testing.assert_array_equal(engine.preprocess(pictures), engine.preprocess(files))
    logits = engine(engine.preprocess(files)).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for number, answer in enumerate(engine.predict(files, top=2)):
        order = np.argsort(-logits[number])
        assert engine.labels == LABELS
        assert answer.image == str(files[number])
        assert [one.label for one in answer.top] == [LABELS[index] for index in order[:2]]
        assert answer.probability == pytest.approx(shares[number].max())
        assert (answer.label, answer.index) == (LABELS[order[0]], order[0])
    assert [one.image for one in engine.predict(pictures)] == ["pixels"] * 7
    assert engine.predict(np.stack(pictures)[..., None]) == engine.predict(pictures)


def test_one_picture_is_a_list_of_one(engine: paraexport.Engine) -> None:
    (answer,) = engine.predict(pixels(0))
    assert answer.top[0].label == answer.label
    assert engine.predict([]) == []
    assert engine.preprocess([]).shape == (0, 1, 8, 12)


def test_pictures_that_cannot_be_are_refused(engine: paraexport.Engine, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    for picture in (
        tmp_path / "text.png",
        tmp_path / "missing.png",
        pixels(0)[0],
        pixels(0) / 255,
        np.dstack([pixels(0)] * 3),
        7,
    ):
        with pytest.raises(DataError):
            engine.predict([picture])  # type: ignore[list-item]
        with pytest.raises(DataError):
            engine.predict(picture)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="at least 1"):
        engine.predict(pixels(0), top=0)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "LA", "I;16", "CMYK"])
def test_images_of_pillow_are_read_like_files(engine: paraexport.Engine, tmp_path: Path, mode: str) -> None:
    rng = np.random.default_rng(3)
    grey = Image.fromarray(rng.integers(0, 256, (40, 33), np.uint8))
    image = (
        Image.fromarray(rng.integers(0, 65536, (40, 33)).astype(np.uint16)) if mode == "I;16" else grey.convert(mode)
    )
    file = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    image.save(file)
    assert np.array_equal(engine.preprocess(image), engine.preprocess(file))
    with Image.open(file) as opened:
        assert np.array_equal(engine.preprocess(opened), engine.preprocess(file))
    assert engine.predict(image)[0].label == engine.predict(file)[0].label
    assert engine.predict([image, file])[0].image == "pixels"


def test_a_damaged_image_of_pillow(engine: paraexport.Engine, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 33), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:-200])
    with Image.open(file) as opened, pytest.raises(DataError, match="truncated or damaged"):
        engine.predict(opened)
    with pytest.raises(DataError, match="no known range"):
        engine.predict(Image.fromarray(np.zeros((4, 4), np.float32)))
