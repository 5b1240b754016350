"""Checkpoint files: torch zip, the pickles before it, safetensors, programs, and an index with its shards."""

from __future__ import annotations

import copy
import io
import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from paraexport.checkpoint.load import load_checkpoint
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec
from tests.faults.mutation import mutate
from tests.faults.reader import Reader

SPEC = Spec(
    image_size=(8, 8), channels=3, classes=3, patch_size=(4, 4), dim=8, branches=2, depth=1, heads=2, head_dim=4,
    mlp_dim=8, residual="input",
)  # fmt: skip
GIVEN = {"heads": "2", "residual": "input", "activation": "gelu", "pool": "cls", "norm": "before", "image_size": "8"}
BETWEEN = b"\n\0next shard\0\n"


def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: tensor.clone() for name, tensor in ParaFormer(SPEC).state_dict().items()}


def read(file: Path) -> None:
    torch.set_num_threads(1)
    load_checkpoint(file, overrides=GIVEN)


def saved(content: object, *, legacy: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=not legacy)
    return stream.getvalue()


def contents() -> list[object]:
    """A bare state dict, and a training run with most kinds of objects that are met in one."""
    copy = {f"module.{name}": tensor.half() for name, tensor in weights().items()}
    training = {
        "model": weights(),
        "model_ema": copy,
        "config": {"num_heads": 2, "labels": ["a", "b", "c"], "mean": torch.full((3,), 0.5)},
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0, 1]}]},
        "epoch": 3,
        "raw": bytearray(b"abc"),
        "shape": torch.Size([1, 2]),
    }
    return [weights(), training]


def zip_files(_folder: Path) -> Sequence[bytes]:
    return [saved(content, legacy=False) for content in contents()]


def legacy_files(_folder: Path) -> Sequence[bytes]:
    return [saved(content, legacy=True) for content in contents()]


def damage_zip(data: bytes, pick: Random) -> bytes:
    """Change an entry, its name or the list of entries, and write a zip whose sums are right; or change any byte."""
    how = pick.randrange(8)
    if how == 0:
        return mutate(data, pick)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    large = [place for place, (name, _) in enumerate(entries) if name.endswith((".pkl", ".json", "model.pt"))]
    place = pick.choice(large) if how < 6 else pick.randrange(len(entries))
    name, content = entries[place]
    if how == 6:
        entries[place : place + 1] = pick.choice(([], [(name, content)] * 2, [(f"{name}x", content)], [("a/b", b"")]))
    elif content:
        entries[place] = name, (mutate_text(content, pick) if name.endswith("json") else mutate(content, pick))
    stream = io.BytesIO()
    method = pick.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in entries:
            archive.writestr(name, content)
    changed = stream.getvalue()
    if how == 7:
        # as UTF-8 says the flag of an entry, which its name is then not
        changed = changed.replace(b"data", pick.choice((b"d\xff\xfea", b"d\xc3\xa9a", b"d\0ta")), pick.choice((1, -1)))
        flags = changed.rfind(b"PK\x01\x02") + 8
        changed = changed[:flags] + b"\x00\x08" + changed[flags + 2 :]
    return changed


ODD: tuple[object, ...] = (None, 0, -1, 1, 2**31, 2**63, 1e308, "", "x", "0", [], {}, [[]], {"a": 1}, True, "s" * 5000)


def mutate_text(content: bytes, pick: Random) -> bytes:
    """JSON with another value somewhere, or with other bytes."""
    if pick.random() < 0.2:
        return mutate(content, pick)
    record = json.loads(content)
    for _ in range(pick.choice((1, 1, 1, 3))):
        places = list(places_in(record))
        if not places:
            break
        parent, key = pick.choice(places)
        if pick.random() < 0.2:
            del parent[key]
        else:
            other, its_key = pick.choice(places)
            parent[key] = copy.deepcopy(pick.choice((*ODD, other[its_key])))
    return json.dumps(record).encode()


def places_in(record: Any) -> Iterator[tuple[Any, Any]]:
    """Every (dict or list, key or index) in JSON."""
    if isinstance(record, dict | list):
        for key, value in list(record.items() if isinstance(record, dict) else enumerate(record)):
            yield record, key
            yield from places_in(value)


def safetensors_files(_folder: Path) -> Sequence[bytes]:
    halves = {name: tensor.bfloat16() for name, tensor in weights().items()}
    left_out = "branches.0.layers.0.attention_norm.bias"
    del halves[left_out]  # as save_model does with what is tied
    tied = {left_out: "norm.bias", "format": "pt"}
    return [safetensors.torch.save(weights()), safetensors.torch.save(halves, tied)]


def damage_safetensors(data: bytes, pick: Random) -> bytes:
    """Another header of the right length, or any other byte."""
    if pick.random() < 0.4:
        return mutate(data, pick)
    length = int.from_bytes(data[:8], "little")
    header = mutate_text(data[8 : 8 + length], pick)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def programs(folder: Path) -> Sequence[bytes]:
    """A small network that is traced as it is, with numbers of its own and a free number of images."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.append(nn.Linear(2, 3))
    dynamic = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network.eval(), (torch.randn(2, 3, 8, 8),), dynamic_shapes=dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, folder / "a.pt2")
    return [(folder / "a.pt2").read_bytes()]


def read_program(file: Path) -> None:
    torch.set_num_threads(1)
    load_checkpoint(file)


def shards(_folder: Path) -> Sequence[bytes]:
    """An index and two shards, one after another in one file; `read_shards` takes them apart."""
    seeds = []
    for suffix in ("safetensors", "bin"):
        names = list(held := weights())
        halves = [dict(list(held.items())[::2]), dict(list(held.items())[1::2])]
        files = [f"model-{number:05}-of-00002.{suffix}" for number in (1, 2)]
        listed = {name: files[place % 2] for place, name in enumerate(names)}
        index = json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}).encode()
        written = [saved(half, legacy=False) if suffix == "bin" else safetensors.torch.save(half) for half in halves]
        seeds.append(BETWEEN.join([index, *written]))
    return seeds


def damage_shards(data: bytes, pick: Random) -> bytes:
    parts = data.split(BETWEEN)
    place = pick.choice((0, 0, 0, 1, 2))
    if place == 0:
        parts[0] = mutate_text(parts[0], pick)
    else:
        parts[place] = (damage_zip if parts[place].startswith(b"PK") else damage_safetensors)(parts[place], pick)
    return BETWEEN.join(parts)


def read_shards(file: Path) -> None:
    torch.set_num_threads(1)
    index, *parts = file.read_bytes().split(BETWEEN)
    suffix = "bin" if parts and parts[0].startswith(b"PK") else "safetensors"
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        for number, part in enumerate(parts, 1):
            (Path(folder) / f"model-{number:05}-of-00002.{suffix}").write_bytes(part)
        (Path(folder) / f"model.{suffix}.index.json").write_bytes(index)
        load_checkpoint(Path(folder), overrides=GIVEN)


READERS = (
    Reader("torch-zip", zip_files, read, ".pt", damage_zip),
    Reader("torch-legacy", legacy_files, read, ".pt"),
    Reader("safetensors", safetensors_files, read, ".safetensors", damage_safetensors),
    Reader("pt2", programs, read_program, ".pt2", damage_zip),
    Reader("shards", shards, read_shards, ".shards", damage_shards),
)
