"""Throughput of ViTs on GPUs as published by others, to check the GPU part of the model.

The numbers are images a second from huggingface/pytorch-image-models at commit aa4b5850, folder `results/`:
torch.compile, mixed precision in fp16, images already on the GPU. A ViT of N layers is one branch of N layers. Its work
is that of N branches with one layer each in the layout `branches`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.predictions.measurements import Part
from paraexport.model.spec import Spec

SIZES = {"tiny": (192, 12), "small": (384, 12), "base": (768, 12), "large": (1024, 24)}
"""D and layers. Heads have 64 channels, and the feed-forward has 4 D."""
MODELS = ("tiny16-224", "tiny16-384", "small32-224", "small16-224", "small16-384", "base32-224", "base16-224",
          "base16-384", "large32-224", "large16-224", "large16-384")  # fmt: skip
"""vit_SIZE_patchP_I as SIZE, P, I."""


@dataclass(frozen=True)
class Table:
    """A file of results."""

    file: str
    device: str
    batch: int
    images_per_s: tuple[float, ...]
    """In the order of `MODELS`."""
    part: Part


TABLES = (
    Table("benchmark-infer-amp-nchw-pt291-cu128-4090-dynamo.csv", "rtx4090", 1024,
          (23698.81, 7487.24, 33183.33, 9948.51, 3151.39, 12161.54, 3375.59, 1080.73, 3952.17, 1035.76, 336.09), "fit"),
    Table("benchmark-infer-amp-nchw-pt240-cu124-rtx4090-dynamo.csv", "rtx4090", 256,
          (24266.11, 7452.45, 32872.0, 9665.97, 3183.86, 11925.14, 3345.67, 1108.32, 3882.7, 1041.62, 343.49), "check"),
    Table("benchmark-infer-amp-nchw-pt291-cu130-5090-dynamo.csv", "rtx5090", 1024,
          (33176.46, 9824.74, 46713.19, 13438.54, 4232.23, 15923.69, 4378.83, 1423.1, 5114.44, 1338.7, 433.32),
          "check"),
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One throughput."""

    file: str
    model: str
    device: str
    spec: Spec
    """With one layer in each of two branches; `layers` says how many there are."""
    layers: int
    batch: int
    latency_ms: float
    part: Part


def read_published() -> Iterator[Published]:
    for table in TABLES:
        for model, rate in zip(MODELS, table.images_per_s, strict=True):
            name, image = model.split("-")
            size, patch = name[:-2], int(name[-2:])
            dim, layers = SIZES[size]
            spec = vit(dim, patch, int(image))
            title = f"vit_{size}_patch{patch}_{image}"
            latency_ms = 1e3 * table.batch / rate
            yield Published(table.file, title, table.device, spec, layers, table.batch, latency_ms, table.part)


def vit(dim: int, patch: int, image: int, branches: int = 2, depth: int = 1, *, classes: int = 1000) -> Spec:
    """The layers of a ViT, as branches."""
    return Spec(
        image_size=(image, image), channels=3, classes=classes, patch_size=(patch, patch), dim=dim, branches=branches,
        depth=depth, heads=dim // 64, head_dim=64, mlp_dim=4 * dim, residual="input", pool="cls",
    )  # fmt: skip
