"""Models that other code runs: PyTorch's own encoder layers, and the released block's behaviour told in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from paraexport.checkpoint.load import load_checkpoint
from tests.checkpoint.writers import saved

FLOAT64 = 1e-10
"""max |Δ logit| / max |logit| with both modules run in float64."""


class TorchEncoders(nn.Module):
    """Branches of `nn.TransformerEncoder` that read the same tokens and are summed."""

    def __init__(self, *, norm_first: bool, activation: Literal["relu", "gelu"], bias: bool = True) -> None:
        super().__init__()
        self.patch_embedding = nn.Conv2d(3, 16, 4, 4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 16))
        self.pos_embedding = nn.Parameter(torch.randn(1, 7, 16))
        self.branches = nn.ModuleList(
            nn.TransformerEncoder(
                nn.TransformerEncoderLayer(
                    16, 4, 40, activation=activation, batch_first=True, norm_first=norm_first, bias=bias
                ),
                num_layers=2,
                enable_nested_tensor=False,
            )
            for _ in range(3)
        )
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embedding(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), patches], 1) + self.pos_embedding
        total = torch.stack([branch(tokens) for branch in self.branches]).sum(0)
        return self.head(self.norm(total)[:, 0])


class PreNorm(nn.Module):
    """Hands LN(x), and not x, to what follows."""

    def __init__(self, dim: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        return self.fn(self.norm(x))


class SelfAdding(nn.Module):
    """Adds its own input, which behind a PreNorm is LN(x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x + self.update(x)

    def update(self, x: Tensor) -> Tensor:
        raise NotImplementedError


class ReleasedAttention(SelfAdding):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_qkv = nn.Linear(dim, 3 * heads * 64, bias=False)
        self.to_out = nn.Sequential(nn.Linear(heads * 64, dim), nn.Dropout(0.1))

    def update(self, x: Tensor) -> Tensor:
        query, key, value = self.to_qkv(x).reshape(*x.shape[:2], 3, self.heads, 64).permute(2, 0, 3, 1, 4)
        mixed = (query @ key.transpose(2, 3) / 8).softmax(-1) @ value
        return self.to_out(mixed.transpose(1, 2).flatten(2))


class ReleasedFeedForward(SelfAdding):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(dim, 24), nn.GELU(), nn.Dropout(0.1), nn.Linear(24, dim), nn.Dropout(0.1))

    def update(self, x: Tensor) -> Tensor:
        return self.net(x)


class ReleasedBranches(nn.Module):
    def __init__(self, dim: int, branches: int, depth: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                *(
                    PreNorm(dim, ReleasedAttention(dim, 2) if index % 2 == 0 else ReleasedFeedForward(dim))
                    for index in range(2 * depth)
                )
            )
            for _ in range(branches)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([branch(x) for branch in self.branches]).sum(0)


class Released(nn.Module):
    """1-channel images of 8 × 12 pixels in patches of 4 × 4."""

    def __init__(self, branches: int, depth: int, pool: str) -> None:
        super().__init__()
        self.pool = pool
        self.pos_embedding = nn.Parameter(torch.randn(1, 7, 12))
        self.cls_token = nn.Parameter(torch.randn(1, 1, 12))
        self.to_patch_embedding = nn.Sequential(nn.Identity(), nn.Linear(16, 12))
        self.paraformerbranches = ReleasedBranches(12, branches, depth)
        self.mlp_head = nn.Sequential(nn.LayerNorm(12), nn.Linear(12, 5))

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, 4, stride=4).transpose(1, 2)  # of one channel: (p1 p2 c) = (c p1 p2)
        tokens = torch.cat([self.cls_token.expand(images.shape[0], -1, -1), self.to_patch_embedding(patches)], 1)
        total = self.paraformerbranches(tokens + self.pos_embedding)
        return self.mlp_head(total.mean(1) if self.pool == "mean" else total[:, 0])


def randomised(module: nn.Module) -> nn.Module:
    """Every parameter away from its initial value: norms are not one, biases not zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape), alpha=0.2)
    return module.eval()


def disagreement(path: Path, module: nn.Module, images: Tensor, **overrides: str) -> float:
    """Save the module's weights, load them, run both in float64."""
    loaded = load_checkpoint(saved(path, module.state_dict()), overrides=overrides)
    with torch.no_grad():
        expected = module.double()(images.double())
        return float((loaded.module.double()(images.double()) - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_an_encoder_of_torch(norm_first: bool, activation: Literal["relu", "gelu"], tmp_path: Path) -> None:
    module = randomised(TorchEncoders(norm_first=norm_first, activation=activation))
    given = {"heads": "4", "image_size": "8x12"}
    if norm_first:
        given["residual"] = "input"
    if activation == "gelu":
        given["activation"] = "gelu"
    assert disagreement(tmp_path / "model.pt", module, torch.randn(3, 3, 8, 12), **given) <= FLOAT64


def test_an_encoder_of_torch_read_with_the_wrong_residual_is_told_apart(tmp_path: Path) -> None:
    module = randomised(TorchEncoders(norm_first=True, activation="relu"))
    given = {"heads": "4", "image_size": "8x12", "residual": "post"}
    assert disagreement(tmp_path / "model.pt", module, torch.randn(3, 3, 8, 12), **given) > 0.01


def test_an_encoder_of_torch_without_any_bias(tmp_path: Path) -> None:
    module = randomised(TorchEncoders(norm_first=False, activation="relu", bias=False))
    given = {"heads": "4", "image_size": "8x12"}
    assert disagreement(tmp_path / "model.pt", module, torch.randn(3, 3, 8, 12), **given) <= FLOAT64


@pytest.mark.parametrize(("branches", "depth", "pool"), [(1, 2, "cls"), (3, 1, "mean"), (4, 3, "cls")])
def test_the_released_code(branches: int, depth: int, pool: str, tmp_path: Path) -> None:
    module = randomised(Released(branches, depth, pool))
    given = {"image_size": "8x12", "pool": pool}
    assert disagreement(tmp_path / "model.t7", module, torch.randn(3, 1, 8, 12), **given) <= FLOAT64
