"""Bundles whose files are damaged by somebody who writes their digests anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import onnx
import onnx.parser
from safetensors.numpy import save

from paraexport.bundle import report, write_manifest
from paraexport.checks import golden
from paraexport.engine import load
from paraexport.targets.folder import Folder
from paraexport.targets.trt import info
from tests.bundle.forging import sealed
from tests.bundle.test_bundle import manifest
from tests.faults.json_damage import damage_json
from tests.faults.reader import Reader

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[batch, 1, 8, 12] images) => (float[batch, 5] logits)
    <int64[5] first = {0, 1, 2, 3, 4}> {
        flat = Flatten (images)
        logits = Gather <axis = 1> (flat, first)
    }
"""
WORDS = (
    "format",
    "digest",
    "files",
    "inputs",
    "shape",
    "resize",
    "mean",
    "labels",
    "checks",
    "sha256",
    "size_bytes",
    "x",
)
damage = damage_json(WORDS)


def good_bundle(folder: Path) -> Path:
    bundle = folder / "a.bundle"
    bundle.mkdir()
    onnx.save(onnx.parser.parse_model(GRAPH), bundle / "model.onnx")
    write_manifest(bundle, manifest())
    return bundle


def manifests(folder: Path) -> Sequence[bytes]:
    return [(good_bundle(folder) / "manifest.json").read_bytes()]


def forge_manifest(data: bytes, pick: Random) -> bytes:
    """Damaged, and its digest written anew where there is one."""
    return sealed(damage(data, pick))


def read_bundle_with(file: Path) -> None:
    """Open the good bundle with this manifest in it."""
    bundle = file.with_name("seeds") / "a.bundle"
    shutil.copyfile(file, bundle / "manifest.json")
    load(bundle, threads=1)


def golden_files(folder: Path) -> Sequence[bytes]:
    images = np.zeros((2, 1, 8, 12), np.float32)
    return [save({"images": images, "logits": np.zeros((2, 5), np.float32)}, {"origin": "x"})]


def damage_header(data: bytes, pick: Random) -> bytes:
    """The JSON at the head of a safetensors file, or any of its bytes."""
    length = int.from_bytes(data[:8], "little")
    header = damage(data[8 : 8 + length], pick)
    size = len(header) if pick.random() < 0.9 else pick.choice((0, 2**31, 2**63, 2**64 - 1))
    return size.to_bytes(8, "little") + header + data[8 + length :]


def as_in_bundle(name: str, file: Path) -> Folder:
    """A folder in which the file is called `name`."""
    folder = file.with_name("as-in-bundle")
    folder.mkdir(exist_ok=True)
    shutil.copyfile(file, folder / name)
    (folder / info.ENGINE).touch()
    return Folder(folder)


def reports(folder: Path) -> Sequence[bytes]:
    found = {
        "created": "2026-01-01T00:00:00+00:00", "machine": "x", "stages_s": {"trace": 1.0}, "export_s": 1.0,
        "total_s": 2.0, "evidence": "none", "made_up": True, "unreadable": ["x"], "accuracy": None,
        "checks": [
            {"name": "parity", "value": 1e-6, "limit": 1e-5, "unit": "x", "samples": 1, "passed": True, "reason": ""}
        ],
        "assumptions": [{"field": "heads", "value": "2", "reason": "x"}], "engine": None,
    }  # fmt: skip
    return [json.dumps(found).encode()]


def engine_files(folder: Path) -> Sequence[bytes]:
    found = {
        "runtime": "tensorrt-rtx", "version": "1.7.1", "built_for": ["8.9"], "built_on": "",
        "profiles": [{"min": 1, "opt": 1, "max": 4}], "options": {}, "network_layers": 3,
        "products": {"fc1": ["float"]}, "fused_attention": False, "size_bytes": 10, "inspection": None,
        "not_inspected": "x", "warnings": [],
    }  # fmt: skip
    return [json.dumps(found).encode()]


READERS = (
    Reader("bundle-manifest", manifests, read_bundle_with, ".json", forge_manifest),
    Reader(
        "bundle-golden",
        golden_files,
        lambda file: golden.read(as_in_bundle(golden.FILE, file)),
        ".safetensors",
        damage_header,
    ),
    Reader("bundle-report", reports, lambda file: report.read(as_in_bundle(report.JSON, file)), ".json", damage),
    Reader("bundle-engine", engine_files, lambda file: info.read(as_in_bundle(info.INFO, file)), ".json", damage),
)
