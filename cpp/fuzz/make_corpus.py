"""Writes the kept corpus: `python cpp/fuzz/make_corpus.py`. It needs the build environment of paraexport."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from PIL import Image
from safetensors.numpy import save

import paraexport

CORPUS = Path(__file__).parent / "corpus"
ROOT = Path(__file__).parents[2]
GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[batch, 4] images) => (float[batch, 2] logits) <float[4, 2] w = {1, 2, 3, 4, 5, 6, 7, 8}> {
        logits = MatMul (images, w)
    }
"""


def put(kind: str, name: str, content: bytes) -> None:
    folder = CORPUS / kind
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


CALIBRATION = ROOT / "calib/digits/calibration"
SEEDS = {
    "onnxruntime-fp32": {"target": "onnxruntime", "precision": "fp32", "calib": CALIBRATION},
    "openvino-int8": {"target": "openvino", "precision": "int8", "calib": CALIBRATION},
    "fewer-branches": {"target": "onnxruntime", "precision": "int8", "calib": CALIBRATION, "branches_at_load": "1"},
}


def manifests() -> None:
    for name, options in SEEDS.items():
        with tempfile.TemporaryDirectory() as folder:
            bundle = paraexport.build(ROOT / "models/digits.pt", Path(folder) / "a.bundle", **options)
            raw = json.loads((bundle.path / "manifest.json").read_text())
        write_manifest(name, raw)


def write_manifest(kind: str, raw: dict[str, Any]) -> None:
    """Write a shortened manifest, whose files have the content that `bundle.cpp` gives them."""
    for name in ("rewrites", "labels"):
        raw[name] = raw[name][:2]
    raw["fewer_branches"] = raw["fewer_branches"][:1]
    for model in (raw, *raw["fewer_branches"]):
        model["checks"] = model["checks"][:2]
        if model["lowering"]:
            model["lowering"]["products"] = dict([*model["lowering"]["products"].items()][:2])
            model["lowering"]["errors"] = model["lowering"]["errors"][:2]
    raw["outputs"][0]["shape"][1] = 2
    raw["spec"]["classes"] = 2
    files = {"model.onnx": b"model", "golden.safetensors": b"golden"}
    if raw["fewer_branches"]:
        files |= {"model.first1.onnx": b"model", "model.onnx.data": b"weights"}
    raw["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in files.items()
    }
    raw["versions"] = {"onnx": "1"}
    content = json.dumps(raw, indent=2, sort_keys=True).encode()
    put("manifest", f"{kind}.json", content)
    put("bundle", f"{kind}.json", content)


def others() -> None:
    golden = {"images": np.ones((2, 1, 2, 2), np.float32), "logits": np.zeros((2, 2), np.float32)}
    put("safetensors", "images", save(golden))
    raw = {"pixels.0": np.zeros((3, 2, 1), np.uint8), "prepared.0": np.ones((1, 2, 2), np.float32)}
    put("safetensors", "raw", save(golden | raw | {"logits.0": np.ones(2, np.float32)}))
    put("safetensors", "first", save(golden | {f"first_branches.{count}": golden["logits"] for count in (1, 2)}))
    model = onnx.parser.parse_model(GRAPH)
    put("external_data", "inside.onnx", model.SerializeToString())
    tensor = model.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", "model.onnx.data"), ("offset", "0"), ("length", "32")):
        tensor.external_data.add(key=key, value=value)
    put("external_data", "outside.onnx", model.SerializeToString())
    for number, geometry in enumerate(
        ((0, 8, 12, 0, 20, 20, 2, 40, 50, 1, 0, 0), (1, 7, 7, 1, 9, 9, 3, 99, 3, 3, 2, 1))
    ):
        put("pixels", f"geometry{number}", struct.pack(">12H", *geometry) + bytes(range(64)))


def images() -> None:
    pick = np.random.default_rng(0)
    for mode in ("1", "L", "LA", "RGB", "RGBA", "P"):
        image = Image.fromarray(pick.integers(0, 256, (9, 7, 4), np.uint8), "RGBA").convert(mode)
        stream = io.BytesIO()
        image.save(stream, "PNG")
        put("image_file", f"{mode}.png", stream.getvalue())
    for name, options in (("plain", {}), ("progressive", {"progressive": True}), ("444", {"subsampling": 0})):
        stream = io.BytesIO()
        Image.fromarray(pick.integers(0, 256, (17, 19, 3), np.uint8)).save(stream, "JPEG", quality=30, **options)
        put("image_file", f"{name}.jpg", stream.getvalue())


if __name__ == "__main__":
    manifests()
    others()
    images()
