"""Adds labels and preprocessing to the metadata of model.onnx, for programs that open this file alone."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from paraexport.bundle.records import Manifest

PREFIX = "paraexport."
FIELDS = ("labels", "preprocessing", "scores")
"""The fields of the manifest that go into the metadata, each as JSON under `paraexport.FIELD`."""


def add_to(model: Path, manifest: Manifest) -> None:
    """Append the fields to the file at `model`.

    Protobuf merges a message with one that follows it in the same file. So the weights are neither read nor copied.
    """
    import onnx

    message = onnx.ModelProto()
    for name in FIELDS:
        text = json.dumps(msgspec.to_builtins(getattr(manifest, name)), ensure_ascii=False)
        message.metadata_props.add(key=f"{PREFIX}{name}", value=text)
    with model.open("ab") as file:
        file.write(message.SerializeToString())
