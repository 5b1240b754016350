"""A plain version of the released architecture, and its ONNX files from torch's two exporters, each exported once."""

from __future__ import annotations

import functools
import logging
import math
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from paraexport.trace.trace import quiet_exporter

Style = Literal["chunk", "index", "split", "fused"]
"""How a packed product is cut into parts, and the place of the scale; `fused` calls scaled_dot_product_attention."""
Total = Literal["stack", "sum", "zeros", "loop"]
IMAGE, PATCH, DIM, HEADS, HEAD_DIM, MLP, CLASSES = 8, 4, 12, 2, 16, 20, 5


class Attention(nn.Module):
    """LN, one product for queries, keys and values, and heads. Its input is added, as in the released code."""

    def __init__(self, style: Style) -> None:
        super().__init__()
        self.style = style
        self.norm = nn.LayerNorm(DIM)
        self.to_qkv = nn.Linear(DIM, 3 * HEADS * HEAD_DIM, bias=style != "chunk")
        self.to_out = nn.Linear(HEADS * HEAD_DIM, DIM)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        batch, tokens, _ = x.shape
        packed, scale = self.to_qkv(x), HEAD_DIM**-0.5
        if self.style == "index":
            query, key, value = packed.reshape(batch, tokens, 3, HEADS, HEAD_DIM).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            parts = packed.chunk(3, dim=-1) if self.style == "chunk" else packed.split(HEADS * HEAD_DIM, dim=-1)
            query, key, value = (part.reshape(batch, tokens, HEADS, HEAD_DIM).permute(0, 2, 1, 3) for part in parts)
        if self.style == "fused":
            mixed = F.scaled_dot_product_attention(query, key, value)
        elif self.style == "index":
            mixed = ((query * scale) @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        elif self.style == "split":
            mixed = (query @ key.transpose(-2, -1) / math.sqrt(HEAD_DIM)).softmax(dim=-1) @ value
        else:
            mixed = torch.matmul(torch.softmax(torch.matmul(query, key.transpose(-1, -2)) * scale, dim=-1), value)
        return self.to_out(mixed.transpose(1, 2).reshape(batch, tokens, -1)) + x


class FeedForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner, self.outer = nn.LayerNorm(DIM), nn.Linear(DIM, MLP), nn.Linear(MLP, DIM)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        return self.outer(F.gelu(self.inner(x))) + x


class Plain(nn.Module):
    """Images [B, 3, 8, 8] -> logits [B, 5]."""

    def __init__(self, style: Style, total: Total, branches: int = 2, depth: int = 2) -> None:
        super().__init__()
        self.total = total
        self.patch = nn.Linear(3 * PATCH**2, DIM)
        self.place = nn.Parameter(torch.zeros(1, (IMAGE // PATCH) ** 2 + 1, DIM))
        self.token = nn.Parameter(torch.zeros(1, 1, DIM))
        layers = [[part for _ in range(depth) for part in (Attention(style), FeedForward())] for _ in range(branches)]
        self.branches = nn.ModuleList(nn.Sequential(*each) for each in layers)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Sequential(nn.LayerNorm(DIM), nn.Linear(DIM, CLASSES))

    def forward(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        grid = (height // PATCH, width // PATCH)
        patches = images.reshape(batch, channels, grid[0], PATCH, grid[1], PATCH).permute(0, 2, 4, 3, 5, 1)
        tokens = self.patch(patches.reshape(batch, grid[0] * grid[1], PATCH * PATCH * channels))
        tokens = torch.cat([self.token.expand(batch, -1, -1), tokens], dim=1)
        tokens = self.dropout(tokens + self.place[:, : tokens.shape[1]])
        return self.head(self.added(tokens)[:, 0])

    def added(self, tokens: Tensor) -> Tensor:
        if self.total == "stack":
            return torch.stack([branch(tokens) for branch in self.branches]).sum(dim=0)
        if self.total == "sum":
            total: Tensor = sum(branch(tokens) for branch in self.branches)
            return total
        total = torch.zeros_like(tokens) if self.total == "zeros" else self.branches[0](tokens)
        for branch in list(self.branches)[self.total == "loop" :]:
            total = total + branch(tokens)
        return total


@dataclass(frozen=True)
class Exported:
    proto: onnx.ModelProto
    images: NDArray[np.float32]
    logits: NDArray[np.float32]
    """PyTorch's for the images."""


@functools.lru_cache
def exported(style: Style, total: Total, opset: int, *, scripted: bool = False) -> Exported:
    """The file of a model with random weights, from torch.onnx.export or the older TorchScript exporter."""
    random = torch.Generator().manual_seed(0)
    model = Plain(style, total).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.4 + (parameter == 1))
        images = torch.randn(3, 3, IMAGE, IMAGE, generator=random)
        logits = model(images)
    return Exported(export(model, images, opset, scripted=scripted), images.numpy(), logits.numpy())


def export(model: nn.Module, images: Tensor, opset: int, *, scripted: bool = False) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, quiet():
        path = Path(folder) / "model.onnx"
        if scripted:
            torch.onnx.export(
                model, (images,), path, dynamo=False, opset_version=opset, input_names=["images"],
                output_names=["logits"], dynamic_axes={"images": {0: "batch"}, "logits": {0: "batch"}},
            )  # fmt: skip
        else:
            torch.onnx.export(
                model, (images,), path, dynamo=True, opset_version=opset, input_names=["images"],
                output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False,
                verbose=False,
            )  # fmt: skip
        return onnx.load(path)


@contextmanager
def quiet() -> Iterator[None]:
    with quiet_exporter(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.captureWarnings(False)
        yield
