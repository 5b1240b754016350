"""Separate products for nn.MultiheadAttention: the numbers equal PyTorch's, the module is unchanged afterwards, and
the graphs can be stacked."""

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from paraexport.model.spec import Classifier
from paraexport.rewrite import rewrite
from paraexport.trace.attention import SeparateAttention, separate_attention
from paraexport.trace.trace import trace

SHAPE = Classifier(image_size=(8, 12), channels=1, classes=5)


def shaken(module: nn.Module) -> nn.Module:
    """`module` with random numbers everywhere. New biases would be zero, and new scales one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return module.eval()


class Gated(nn.Module):
    """Branches of nn.TransformerEncoder, each multiplied by a learnt number."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 16, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.branches = nn.ModuleList(
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(16, 2, 24, activation="gelu", batch_first=True, norm_first=True),
                2,
                enable_nested_tensor=False,
            )
            for _ in range(3)
        )
        self.gates = nn.Parameter(torch.rand(3))
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], 1)
        return self.head(sum(gate * branch(tokens) for gate, branch in zip(self.gates, self.branches))[:, 0])  # noqa: B905


@pytest.mark.parametrize("options", [{}, {"bias": False}, {"kdim": 12, "vdim": 20}, {"dropout": 0.5}], ids=str)
def test_it_answers_as_pytorch_does(options: dict[str, Any]) -> None:
    source = shaken(nn.MultiheadAttention(16, 4, batch_first=True, **options))
    assert isinstance(source, nn.MultiheadAttention)
    query, key, value = (torch.randn(3, count, dim) for count, dim in ((5, 16), (7, source.kdim), (7, source.vdim)))
    module = SeparateAttention(source)
    for asked in ({}, {"average_attn_weights": False}, {"need_weights": False}, {"attn_mask": torch.randn(5, 7)}):
        expected, got = source(query, key, value, **asked), module(query, key, value, **asked)
        torch.testing.assert_close(got[0], expected[0])
        torch.testing.assert_close(got[1], expected[1])


def test_a_module_is_given_back_as_it_was() -> None:
    module = shaken(Gated())
    names, kinds = list(module.state_dict()), [type(one) for one in module.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    with contextlib.suppress(KeyboardInterrupt), separate_attention(module):
        assert sum(isinstance(one, SeparateAttention) for one in module.modules()) == 6
        raise KeyboardInterrupt
    assert [type(one) for one in module.modules()] == kinds
    assert list(module.state_dict()) == names
    assert torch.backends.mha.get_fastpath_enabled() is fast


def test_one_attention_under_two_names_stays_one() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    module = nn.ModuleDict({"a": attention, "b": attention, "c": nn.MultiheadAttention(8, 2)})
    with separate_attention(module):
        assert module["a"] is module["b"]
        assert isinstance(module["a"], SeparateAttention)
        assert type(module["c"]) is nn.MultiheadAttention  # its batch is not the first axis
    assert module["b"] is attention


def test_branches_of_a_module_of_ones_own_can_be_stacked(tmp_path: Path) -> None:
    module = shaken(Gated())
    images = torch.randn(3, 1, 8, 12)
    with torch.no_grad():
        expected = module(images).numpy()
    (tmp_path / "traced").mkdir()
    trace(module, SHAPE, tmp_path / "traced/model.onnx")
    done = {one.name: one.times for one in rewrite(tmp_path / "traced/model.onnx", "stacked", tmp_path / "stacked")}
    assert min(done[name] for name in ("norms", "scales", "biases", "select", "absorb", "stack")) >= 1
    for folder in ("traced", "stacked"):
        session = onnxruntime.InferenceSession(tmp_path / folder / "model.onnx", providers=["CPUExecutionProvider"])
        (got,) = session.run(None, {"images": images.numpy()})
        assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    operators = [node.op_type for node in ir.load(tmp_path / "stacked/model.onnx").graph]
    assert operators.count("Attention") == 1  # the last layer has one query, and `absorb` replaces its attention


def test_an_attention_with_hooks_stays_what_it_is() -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    attention.out_proj.register_forward_hook(lambda *_: None)
    module = nn.ModuleList([attention])
    with separate_attention(module):
        assert module[0] is attention


def test_what_a_module_reads_of_its_attention_is_still_there() -> None:
    module = nn.ModuleList([nn.MultiheadAttention(8, 2, batch_first=True)])
    with separate_attention(module):
        assert [getattr(module[0], name) for name in ("embed_dim", "num_heads", "batch_first")] == [8, 2, True]
        with pytest.raises(AttributeError, match="no_such_thing"):
            _ = module[0].no_such_thing
