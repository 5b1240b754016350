"""Bundles whose files are damaged by somebody who writes their digests anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import onnx
import onnx.parser
from safetensors.numpy import save

from paraexport.bundle import report, write_manifest
from paraexport.bundle.records import SCHEMA
from paraexport.checks import golden
from paraexport.engine import load
from paraexport.page.report import page
from paraexport.targets.folder import Folder
from paraexport.targets.trt import info
from tests.bundle.forging import sealed
from tests.bundle.test_bundle import manifest
from tests.faults.json_damage import damage_json
from tests.faults.reader import Reader
from tests.page.samples import branches_of

GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[batch, 1, 8, 12] images) => (float[batch, 5] logits)
    <int64[5] first = {0, 1, 2, 3, 4}> {
        flat = Flatten (images)
        logits = Gather <axis = 1> (flat, first)
    }
"""
PART = {"name": "stem", "nodes": 2, "multiply_adds": 10, "weights_bytes": 40}
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
    newer = {
        **found, "schema": SCHEMA, "bundle": "a.bundle", "command": "paraexport build a.pt",
        "subject": msgspec.to_builtins(manifest().subject), "branches": msgspec.to_builtins(branches_of(3)),
        "answers": {
            "images": 4, "changed": 1, "classes": 1,
            "confusions": [{"truth": 0, "answer": 1, "pytorch": 1, "engine": 2}],
            "by_class": [{"number": 0, "images": 4, "pytorch_correct": 3, "engine_correct": 2}],
            "compared": [{
                "name": "a.png", "png": "aa==", "truth": "a", "pytorch": [{"label": "a", "score": 0.5}],
                "engine": [{"label": "b", "score": 0.5}], "largest_change": 0.1, "same_answer": False,
            }],
        },
        "costs": {name: {"parts": [PART], "operators": [PART]} for name in ("traced", "final")},
    }  # fmt: skip
    return [json.dumps(found).encode(), json.dumps(newer).encode()]


def read_report(file: Path) -> None:
    """Read the report, and draw its page if it has what a page needs."""
    found = report.read(as_in_bundle(report.JSON, file))
    if found.subject is not None:
        page(found)


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
    Reader("bundle-report", reports, read_report, ".json", damage),
    Reader("bundle-engine", engine_files, lambda file: info.read(as_in_bundle(info.INFO, file)), ".json", damage),
)
