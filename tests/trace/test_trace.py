"""The traced graph gives PyTorch's outputs, has names of branches and layers, and is the same in every trace."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from paraexport.errors import TraceError
from paraexport.graph import onnx_file
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Classifier, Residual, Spec
from paraexport.trace.trace import trace


def small_spec(residual: Residual = "normalized", branches: int = 3) -> Spec:
    return Spec(
        image_size=(8, 12), channels=1, classes=5, patch_size=(4, 4), dim=16, branches=branches, depth=2,
        heads=2, head_dim=8, mlp_dim=32, residual=residual, qkv_bias=False,
    )  # fmt: skip


def random_model(spec: Spec, seed: int = 0) -> ParaFormer:
    torch.manual_seed(seed)
    model = ParaFormer(spec).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("residual", ["input", "normalized", "post"])
def test_the_graph_answers_as_pytorch_does_at_every_batch(residual: Residual, tmp_path: Path) -> None:
    model = random_model(small_spec(residual))
    graph = trace(model, model.spec, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(graph.path, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 7):
        images = torch.randn(batch, 1, 8, 12)
        with torch.no_grad():
            expected = model(images).numpy()
        (logits,) = session.run(None, {"images": images.numpy()})
        assert np.abs(logits - expected).max() <= 1e-5 * np.abs(expected).max()


def test_branches_meet_in_one_sum_and_carry_their_names(tmp_path: Path) -> None:
    model = random_model(small_spec())
    trace(model, model.spec, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    (total,) = [node for node in graph.node if node.op_type == "Sum"]
    assert list(total.input) == [f"branches.{branch}/layers.1" for branch in range(3)]
    nodes = {node.name for node in graph.node}
    weights = {tensor.name for tensor in graph.initializer}
    assert len(nodes) == len(graph.node)
    for branch in range(3):
        for layer in range(2):
            scope = f"branches.{branch}/layers.{layer}"
            assert f"{scope}/attention/Attention" in nodes
            assert {f"{scope}/attention/query/weight", f"{scope}/feed_forward/fc2/bias"} <= weights


def test_every_value_named_like_a_tap_equals_it(tmp_path: Path) -> None:
    model = random_model(small_spec())
    trace(model, model.spec, tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    images = torch.randn(2, 1, 8, 12)
    taps = model.taps(images)
    shared = [name for node in proto.graph.node for name in node.output if name in taps]
    assert len(shared) > 6 * 6
    del proto.graph.output[:]
    proto.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in shared)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for name, value in zip(shared, session.run(shared, {"images": images.numpy()}), strict=True):
        np.testing.assert_allclose(value, taps[name].numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        model = random_model(small_spec())
        trace(model, model.spec, tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_tied_weights_stay_one_initializer(tmp_path: Path) -> None:
    model = random_model(small_spec())
    first, second = (model.get_submodule(f"branches.{branch}.layers.0.feed_forward.fc1") for branch in (0, 1))
    second.weight = first.weight
    trace(model, model.spec, tmp_path / "model.onnx")
    shapes = [tuple(tensor.dims) for tensor in onnx.load(tmp_path / "model.onnx").graph.initializer]
    assert shapes.count((16, 32)) == 3 * 2 - 1


def test_external_data_when_the_weights_pass_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MOST_WEIGHTS_BYTES", 100)
    model = random_model(small_spec())
    trace(model, model.spec, tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx.data").stat().st_size > 10_000
    onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])


def test_a_module_that_cannot_be_traced_is_one_clear_line(tmp_path: Path) -> None:
    class Chooses(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean((2, 3)) if bool(images.sum() > 0) else images.amax((2, 3))

    with pytest.raises(TraceError, match="torch cannot export this model to ONNX") as caught:
        trace(Chooses(), Classifier(image_size=(4, 4), channels=3, classes=3), tmp_path / "model.onnx")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "model.onnx").exists()


def test_a_module_that_draws_random_numbers_is_refused_by_the_name_of_the_node(tmp_path: Path) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(8, 5)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pixels = images.flatten(1)[:, :8]
            return self.head(pixels + torch.randn_like(pixels))

    shape = Classifier(image_size=(4, 4), channels=1, classes=5)
    with pytest.raises(TraceError, match=r"draws random numbers.*RandomNormalLike"):
        trace(Noisy().eval(), shape, tmp_path / "model.onnx")
