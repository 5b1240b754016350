"""`predict` on a bundle whose answers are known by hand, and on the digits."""

import math
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from paraexport.bundle import Bundle, staging, write_manifest
from paraexport.engine import Engine
from paraexport.findings.graphs import TensorInfo
from paraexport.model.spec import Preprocessing
from tests.bundle.test_bundle import manifest
from tests.cli.conftest import Run
from tests.conftest import TEST_IMAGES

BRIGHT, DARK = 255, 0


@pytest.fixture(scope="module")
def lamp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that answers [0, 2 · mean, mean] with mean the brightness of a 2x2 image, from 0 to 1."""
    path = tmp_path_factory.mktemp("bundles") / "lamp.bundle"
    write_model(path, channels=1)
    return path


def write_model(path: Path, channels: int) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["flat"]),
        helper.make_node("Mul", ["flat", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "lamp",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", channels, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(np.array([1, 2, 3], np.int64), "axes"),
            numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
            numpy_helper.from_array(np.array([0, 2, 1], np.float32), "weights"),
        ],
    )
    with staging(path) as folder:
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        onnx.save(model, folder / "model.onnx")
        changes: dict[str, object] = {
            "inputs": (TensorInfo("images", "float32", ("batch", channels, 2, 2)),),
            "outputs": (TensorInfo("logits", "float32", ("batch", 3)),),
            "labels": ("off", "on", "dim"),
            "spec": None,
            "preprocessing": Preprocessing(
                image_size=(2, 2), channels=channels, resize=(2, 2), mean=(0.0,), std=(1.0,)
            ),
        }
        write_manifest(folder, manifest(**changes))


def picture(path: Path, value: int) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.full((2, 2), value, np.uint8)).save(path)
    return path


def test_probabilities_are_the_softmax_of_the_logits(run: Run, lamp: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "bright.png", BRIGHT)
    total = 1 + math.e**2 + math.e
    expected = [("on", 1, math.e**2 / total), ("dim", 2, math.e / total), ("off", 0, 1 / total)]
    told = run("predict", lamp, image, "--top", 3, "--json")
    assert told.code == 0
    assert told.json["errors"] == []
    (found,) = told.json["predictions"]
    assert found["image"] == str(image)
    assert (found["label"], found["index"]) == ("on", 1)
    assert found["probability"] == pytest.approx(expected[0][2], rel=1e-7)
    assert [(one["label"], one["index"]) for one in found["top"]] == [one[:2] for one in expected]
    assert [one["probability"] for one in found["top"]] == pytest.approx([one[2] for one in expected], rel=1e-7)
    done = run("predict", lamp, image, "--top", 9)
    assert done.out == f"{image}: on 66.5 %, dim 24.5 %, off 9.0 %\n"
    assert done.err == ""


def test_of_equal_answers_the_lower_class_comes_first(run: Run, lamp: Path, tmp_path: Path) -> None:
    image = picture(tmp_path / "dark.png", DARK)
    assert run("predict", lamp, image, "--top", 2).out == f"{image}: off 33.3 %, on 33.3 %\n"


def test_images_and_folders_keep_their_order_over_several_batches(run: Run, lamp: Path, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in (1, 2, 10)]
    inside = [picture(tmp_path / "photos" / name, BRIGHT) for name in names]
    inside.append(picture(tmp_path / "photos" / "deep" / "a.png", DARK))
    alone = picture(tmp_path / "z.png", DARK)
    done = run("predict", lamp, alone, tmp_path / "photos", alone, "--threads", 1)
    found = [line.rpartition(": ") for line in done.out.splitlines()]
    assert [name for name, _, _ in found] == [str(path) for path in (alone, *inside, alone)]
    assert [answer[:3] for _, _, answer in found] == ["off", "on ", "on ", "on ", "off", "off"]


def test_one_batch_is_read_at_a_time(run: Run, lamp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    right = Engine.__call__

    def counted(engine: Engine, images: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(len(images))
        return right(engine, images)

    monkeypatch.setattr(Engine, "__call__", counted)
    for number in range(7):
        picture(tmp_path / f"{number}.png", number)
    assert run("predict", lamp, tmp_path).code == 0
    assert sizes == [3, 3, 1]


def test_a_bad_image_among_others_is_named_and_the_others_are_predicted(run: Run, lamp: Path, tmp_path: Path) -> None:
    good = [picture(tmp_path / name, BRIGHT) for name in ("a.png", "c.png")]
    bad, missing = tmp_path / "b.png", tmp_path / "missing.png"
    bad.write_bytes(b"junk")
    done = run("predict", lamp, good[0], bad, missing, good[1])
    assert done.code == 2
    assert [line.partition(": ")[0] for line in done.out.splitlines()] == list(map(str, good))
    assert f"error: {bad}: not an image" in done.err
    assert f"error: {missing}: there is no such file" in done.err
    assert done.err.endswith("error: 2 of 4 could not be predicted\n")
    told = run("predict", lamp, good[0], bad, missing, good[1], "--json")
    assert told.code == 2
    assert [one["image"] for one in told.json["predictions"]] == list(map(str, good))
    assert {one["image"]: one["error"]["kind"] for one in told.json["errors"]} == {
        str(bad): "DataError", str(missing): "DataError",
    }  # fmt: skip


def test_a_folder_of_bad_images_only_has_no_predictions(run: Run, lamp: Path, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"junk")
    told = run("predict", lamp, tmp_path, "--json")
    assert (told.code, told.json["predictions"], len(told.json["errors"])) == (2, [], 2)


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_one_bad_image_alone_is_an_error(run: Run, lamp: Path, tmp_path: Path, content: bytes | None) -> None:
    bad = tmp_path / "bad.png"
    if content is not None:
        bad.write_bytes(content)
    done = run("predict", lamp, bad, "--json")
    assert done.code == done.json["exit_code"] == 2
    assert done.json["error"]["where"] == str(bad)
    assert done.err.count("\n") == 1


def test_an_answer_that_is_no_number_is_no_prediction(
    run: Run, lamp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "__call__", lambda _, images: np.full((len(images), 3), np.nan, np.float32))
    done = run("predict", lamp, picture(tmp_path / "a.png", BRIGHT))
    assert done.code == 2
    assert "not finite" in done.err


def test_a_model_that_takes_no_image_files_says_so_once(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "a.bundle", channels=4)
    done = run("predict", tmp_path / "a.bundle", picture(tmp_path / "a.png", 1), picture(tmp_path / "b.png", 1))
    assert done.code == 2
    assert "1 or 3 channels" in done.err
    assert done.err.count("\n") == 1


def test_a_name_that_is_no_text_is_printed_all_the_same(run: Run, lamp: Path, tmp_path: Path) -> None:
    image = tmp_path / os.fsdecode(b"\xff\n.png")
    picture(tmp_path / "a.png", BRIGHT).rename(image)
    done = run("predict", lamp, tmp_path)
    assert done.code == 0
    assert done.out.startswith(f"{tmp_path}/\\udcff .png: on ")
    assert run("predict", lamp, tmp_path, "--json").json["predictions"][0]["image"] == str(image)


def test_the_digits_are_known_by_their_labels(run: Run, digits: Bundle) -> None:
    told = run("predict", digits.path, TEST_IMAGES, "--json").json["predictions"]
    right = [one["label"] == Path(one["image"]).parent.name for one in told]
    assert len(right) == len(list(TEST_IMAGES.rglob("*.png")))
    assert sum(right) / len(right) > 0.9
