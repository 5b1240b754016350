"""Bundles as somebody could write them who knows the format: every digest fits."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[dict[str, Any]], object]


def copied(bundle: Path, target: Path) -> Path:
    target.mkdir()
    for file in bundle.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def forge(bundle: Path, change: Change = lambda raw: None) -> None:
    """Change the manifest, and write its digests anew for the files that it lists."""
    raw = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    for name, entry in raw["files"].items():
        if (bundle / name).is_file():
            content = (bundle / name).read_bytes()
            entry.update(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
    change(raw)
    write(bundle, json.dumps(raw))


def add_fewer_branches(bundle: Path, *counts: int) -> None:
    """Add models that give the logits of the whole one times (-2)^K and stand for those of K branches."""
    import onnx
    import onnx.helper
    from safetensors.numpy import load_file, save_file

    from paraexport.checks.golden import FILE, FIRST, read_all
    from paraexport.graph.shared_weights import share_weights
    from paraexport.targets.folder import MODEL, WEIGHTS, Folder, first_branches_model

    logits = read_all(Folder(bundle)).logits
    tensors = load_file(bundle / FILE)
    whole = (bundle / MODEL).rename(bundle.with_suffix(".onnx"))
    copies = {whole: bundle / MODEL}
    for count in counts:
        model = onnx.load(whole)
        *_, last = (node for node in model.graph.node if "logits" in node.output)
        last.output[[*last.output].index("logits")] = "whole"
        factor = onnx.helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [(-2.0) ** count])
        model.graph.initializer.append(factor)
        model.graph.node.append(onnx.helper.make_node("Mul", ["whole", "factor"], ["logits"]))
        changed = bundle.with_suffix(f".{count}.onnx")
        onnx.save(model, changed)
        copies[changed] = bundle / first_branches_model(count)
        tensors[f"{FIRST}{count}"] = logits * (-2.0) ** count
    share_weights(copies, bundle / WEIGHTS)
    save_file(tensors, bundle / FILE)

    def change(raw: dict[str, Any]) -> None:
        parts = ("checks", "lowering")
        raw["fewer_branches"] = [
            {"branches": count, "file": first_branches_model(count), **{part: raw[part] for part in parts}}
            for count in counts
        ]
        raw["files"] |= {name: {} for name in (WEIGHTS, *map(first_branches_model, counts))}

    forge(bundle, change)
    forge(bundle)


def write(bundle: Path, text: str) -> None:
    """Write a manifest with the digest that fits it."""
    (bundle / "manifest.json").write_bytes(sealed(text.encode("utf-8", "surrogatepass")))


def sealed(content: bytes) -> bytes:
    """The bytes of a manifest with the digest that fits them; as they are where they hold none."""
    if (found := re.search(rb'"digest": "([0-9a-f]{64})"', content)) is None:
        return content
    blank = content[: found.start(1)] + b"0" * 64 + content[found.end(1) :]
    # A reader takes the first place where the digest stands.
    return blank[: found.start(1)] + hashlib.sha256(blank).hexdigest().encode() + blank[found.end(1) :]
