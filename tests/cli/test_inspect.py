"""`inspect` on checkpoints, bundles and ONNX files, against what these were made of."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from paraexport.bundle import Bundle
from tests.cli.conftest import Run
from tests.conftest import DIGITS, LABELS


def test_a_checkpoint_shows_its_spec_and_the_next_command(run: Run, small: Path) -> None:
    done = run("inspect", small)
    assert done.code == 0
    state = torch.load(small, weights_only=True)["state_dict"]
    count = sum(tensor.numel() for tensor in state.values())
    assert f"{count:,} parameters" in done.out
    rows = {line.split()[0]: line.split()[1:] for line in done.out.splitlines() if line}
    assert (rows["branches"], rows["image_size"], rows["qkv_bias"]) == (["3"], ["8x12"], ["false"])
    assert rows["labels"] == [*(f"{name}," for name in LABELS[:-1]), LABELS[-1]]
    assert f"next: paraexport build {small}" in done.out
    told = run("inspect", small, "--json").json
    assert (told["kind"], told["convention"], told["parameters"]) == ("checkpoint", "paraformer", count)
    assert (told["spec"]["depth"], told["labels"]) == (2, list(LABELS))
    assert told["size_bytes"] == small.stat().st_size


def test_what_was_assumed_and_what_was_given_is_marked(run: Run, tmp_path: Path) -> None:
    torch.save({"1.weight": torch.randn(3, 12), "1.bias": torch.zeros(3)}, tmp_path / "a b.pt")
    (tmp_path / "mine.py").write_text(
        "import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))\n"
    )
    module = f"{tmp_path}/mine.py:make"
    done = run(
        "inspect", tmp_path / "a b.pt", "--module", module, "--spec", "image_size=2", "--spec", "channels=3",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = {line.split()[0]: line for line in done.out.splitlines() if line}
    assert rows["image_size"].split() == ["image_size", "2x2", "given", "by", "--spec"]
    assert rows["mean"].endswith("assumed")
    assert not rows["classes"].endswith("assumed")
    assert "not recognised as a Para-Former" in done.out
    assert f"build '{tmp_path}/a b.pt' --spec image_size=2 --spec channels=3 --module {module}" in rows["next:"]


def test_a_bundle_is_verified_and_shown_whole(run: Run, small_bundle: Bundle, tmp_path: Path) -> None:
    done = run("inspect", small_bundle.path)
    assert done.code == 0
    assert "batches up to 5" in done.out
    assert "[batch, 1, 8, 12]" in done.out
    for name, entry in small_bundle.manifest.files.items():
        assert any(line.split()[0] == name and entry.sha256 in line for line in done.out.splitlines() if line)
    told = run("inspect", small_bundle.path, "--json").json
    assert (told["kind"], told["verified"]) == ("bundle", True)
    assert told["manifest"]["key"] == small_bundle.manifest.key

    damaged = tmp_path / "damaged.bundle"
    damaged.mkdir()
    for file in small_bundle.path.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "model.onnx").write_bytes(b"other")
    refused = run("inspect", damaged)
    assert refused.code == 2
    assert "model.onnx" in refused.err
    assert refused.out == ""


def test_a_folder_that_is_no_bundle_says_what_to_name(run: Run, tmp_path: Path) -> None:
    done = run("inspect", tmp_path)
    assert done.code == 2
    assert "give the path of its weight file" in done.err


def test_an_onnx_file_is_counted(run: Run, tmp_path: Path) -> None:
    weights = [
        numpy_helper.from_array(np.zeros((4, 5), np.float32), "float"),
        numpy_helper.from_array(np.zeros(7, np.int64), "int"),
        numpy_helper.from_array(np.zeros(3, np.float16), "half"),
        numpy_helper.from_array(np.zeros(2, np.float64), "double"),
        numpy_helper.from_array(np.zeros(9, bool), "bool"),
        helper.make_tensor("bfloat", TensorProto.BFLOAT16, [3], [0.0] * 3),
        helper.make_tensor("four", TensorProto.INT4, [5], [0] * 5),
        numpy_helper.from_array(np.array(["ab", "cde"], object), "text"),
    ]
    then = helper.make_graph(
        [helper.make_node("Relu", ["images"], ["then"])], "then", [], [helper.make_empty_tensor_value_info("then")]
    )
    nodes = [
        helper.make_node("Relu", ["images"], ["a"], name="branches.0/layers.0/Relu"),
        helper.make_node("Relu", ["images"], ["b"], name="/branches.1/Relu"),
        helper.make_node("Sum", ["a", "b"], ["c"], name="Sum"),
        helper.make_node("If", ["yes"], ["d"], then_branch=then, else_branch=then),
        helper.make_node("Own", ["c"], ["logits"], domain="my.domain"),
    ]
    inputs = [
        helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, None]),
        helper.make_tensor_value_info("yes", TensorProto.BOOL, []),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 5])]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("my.domain", 2)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), tmp_path / "a.onnx")

    told = run("inspect", tmp_path / "a.onnx", "--json").json
    assert told["opsets"] == {"ai.onnx": 21, "my.domain": 2}
    assert told["operators"] == {"Relu": 4, "Sum": 1, "If": 1, "my.domain.Own": 1}
    assert told["inputs"][0] == {"name": "images", "dtype": "float32", "shape": ["batch", 3, "?"]}
    assert told["dynamic_axes"] == ["batch", "?"]
    assert told["branches"] == 2
    assert told["weights"] == len(weights)
    assert told["weights_bytes"] == 4 * 20 + 8 * 7 + 2 * 3 + 8 * 2 + 9 + 2 * 3 + 3 + 5
    done = run("inspect", tmp_path / "a.onnx")
    assert "parallel branches: 2" in done.out
    assert "opset ai.onnx 21, my.domain 2" in done.out


def test_weights_beside_the_file_are_counted_without_being_there(run: Run, tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.zeros((100, 100), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 100])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 100])],
        [weights],
    )
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx", save_as_external_data=True, location="a.data")
    (tmp_path / "a.data").unlink()
    told = run("inspect", tmp_path / "a.onnx", "--json").json
    assert (told["external_data"], told["weights_bytes"], told["branches"]) == (True, 40_000, 0)


@pytest.mark.parametrize("content", [b"", b"junk that is no protobuf", b"\x08\x07"])
def test_a_file_that_only_bears_the_name_is_refused(run: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    done = run("inspect", tmp_path / "a.onnx")
    assert done.code == 2
    assert done.err.startswith(f"error: {tmp_path / 'a.onnx'}: not an ONNX model")
    assert done.err.count("\n") == 1


def test_the_model_of_a_bundle_has_its_branches(run: Run, small_bundle: Bundle) -> None:
    told = run("inspect", small_bundle.path / "model.onnx", "--json").json
    assert told["branches"] == 3
    parts = {part["name"]: part for part in told["parts"]}
    assert {"branch 0", "branch 1", "branch 2", "shared"} <= parts.keys()
    assert sum(part["nodes"] for part in parts.values()) == sum(told["operators"].values())
    shown = run("inspect", small_bundle.path / "model.onnx").out
    row = next(line.split() for line in shown.splitlines() if line.startswith("branch 1"))
    assert row[3] == f"{parts['branch 1']['parameters']:,}"


def test_which_copy_is_shown_is_said_and_can_be_chosen(run: Run, small: Path, tmp_path: Path) -> None:
    content = torch.load(small, weights_only=True)
    state = content.pop("state_dict")
    torch.save({**content, "model": state, "teacher": state}, tmp_path / "both.pt")
    done = run("inspect", tmp_path / "both.pt")
    assert "warning: assumed weights = model: 'teacher' is left out; to use it, give --weights teacher" in done.err
    chosen = run("inspect", tmp_path / "both.pt", "--weights", "teacher", "--json")
    assert "weights" not in [item["field"] for item in chosen.json["assumptions"]]
    assert chosen.json["next"].endswith("both.pt --weights teacher")
    wrong = run("inspect", tmp_path / "both.pt", "--weights", "tutor")
    assert wrong.code == 2
    assert "(expected one of model, teacher)" in wrong.err


def test_a_folder_of_shards_is_a_checkpoint(run: Run, small: Path, tmp_path: Path) -> None:
    state = torch.load(small, weights_only=True)["state_dict"]
    torch.save(state, tmp_path / "pytorch_model-00001-of-00001.bin")
    listed = dict.fromkeys(state, "pytorch_model-00001-of-00001.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": listed}))
    done = run("inspect", tmp_path, "--spec", "heads=2", "--spec", "image_size=8x12", "--json")
    assert done.code == 0, done.err
    assert done.json["kind"] == "checkpoint"
    assert done.json["size_bytes"] == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_open_fields_are_shown_with_the_rest(run: Run, tmp_path: Path) -> None:
    """heads × head_dim = 64 has seven factorisations; the table shows all that the weights contain."""
    weights = torch.load(DIGITS, weights_only=True)["state_dict"]
    torch.save(weights, tmp_path / "bare.pt")
    shown = run("inspect", str(tmp_path / "bare.pt"), "--json").json
    assert {*shown["open"][0]["values"]} == {"1", "2", "4", "8", "16", "32", "64"}
    assert (shown["spec"]["heads"], shown["spec"]["head_dim"]) == (None, None)
    assert (shown["spec"]["dim"], shown["spec"]["branches"], shown["spec"]["mlp_dim"]) == (64, 4, 256)
    assert shown["parameters"] == sum(tensor.numel() for tensor in weights.values())
    assert shown["next"].endswith("--spec heads=N")
    text = run("inspect", str(tmp_path / "bare.pt")).out
    assert re.search("heads +one of 1, 2, 4, 8, 16, 32, 64 +open", text)
    assert run("build", str(tmp_path / "bare.pt")).code == 2


def test_an_image_size_that_is_no_square_is_open(run: Run, tmp_path: Path) -> None:
    content = torch.load(DIGITS, weights_only=True)
    weights = content["state_dict"]
    weights["embedding.position"] = weights["embedding.position"][:, :15]  # 14 patches and the class token
    torch.save(weights, tmp_path / "bare.pt")
    shown = run("inspect", str(tmp_path / "bare.pt"), "--spec", "heads=4", "--json").json
    assert [item["field"] for item in shown["open"]] == ["image_size"]
    assert (shown["spec"]["image_size"], shown["spec"]["heads"]) == (None, 4)
    assert "14 patches, which form no square" in shown["open"][0]["reason"]


def test_the_worth_of_branches(run: Run, digits: Bundle) -> None:
    done = run("inspect", digits.path, "--branches")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines() if line.startswith("branches.")] == [
        f"branches.{number}" for number in range(4)
    ]
    assert "The first branches alone" in done.out
    content = run("inspect", digits.path, "--branches", "--json").json["branches"]
    assert [first["branches"] for first in content["first"]] == [1, 2, 3, 4]
    assert sum(branch["contribution"] for branch in content["branches"]) == pytest.approx(1)


def test_the_worth_of_branches_is_for_bundles_with_branches(run: Run, digits: Bundle) -> None:
    done = run("inspect", DIGITS, "--branches")
    assert done.code == 2
    assert "--branches is for bundles" in done.err
