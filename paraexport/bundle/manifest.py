"""Encodes and decodes manifest.json, and refuses a manifest that is malformed or contradicts itself."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from paraexport.bundle.open_file import is_inside
from paraexport.bundle.records import Manifest
from paraexport.errors import BundleError, on_one_line
from paraexport.targets.folder import COPY_AGAIN, MODEL, first_branches_model

FORMAT = 2
OLDEST_FORMAT = 1
"""The oldest format that can be read. `docs/bundle.md` lists the fields of each."""
RUNTIME_FORMAT = 2
"""From this format on, the `runtime` block is required."""
NO_DIGEST = "0" * 64
MANIFEST_BYTES = 1 << 26
"""A larger manifest is refused."""
MOST_BATCH = 4096
"""Images in one run, even if they are small: values inside the model are larger than images."""
BATCH_BYTES = 1 << 31
"""The largest batch of images: 2 GiB of float32."""


def encode(manifest: Manifest) -> bytes:
    return json.dumps(msgspec.to_builtins(manifest), indent=2, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def digest_of(content: bytes, digest: str) -> str:
    """sha256 of a manifest's bytes, with zeros in place of its own digest."""
    return hashlib.sha256(content.replace(digest.encode(), NO_DIGEST.encode(), 1)).hexdigest()


def decode(content: bytes, file: Path) -> Manifest:
    """Decode the manifest in `content` and verify its digest. `file` is its path, for messages.

    Raises:
        BundleError: the manifest is malformed, was changed, contradicts itself, or needs a newer paraexport.
    """
    raw = parse_json(content, file)
    version = raw.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise BundleError(
            "the bundle has a newer format",
            where=file.parent,
            expected=f"at most {FORMAT}",
            got=version,
            remedy="update paraexport",
        )
    if impossible := next(impossible_values(raw), None):
        raise BundleError("the manifest is malformed", where=file, got=impossible, remedy=COPY_AGAIN)
    try:
        manifest = msgspec.convert(raw, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError("the manifest is malformed", where=file, got=on_one_line(error), remedy=COPY_AGAIN) from error
    if unknown := sorted(unknown_fields(raw, msgspec.to_builtins(manifest))):
        got = ", ".join(unknown[:5])
        raise BundleError("the manifest has unknown fields", where=file, got=got, remedy=COPY_AGAIN)
    if not OLDEST_FORMAT <= manifest.format <= FORMAT:
        what, expected = "the bundle has an unknown format", f"{OLDEST_FORMAT} to {FORMAT}"
        raise BundleError(what, where=file.parent, expected=expected, got=manifest.format, remedy=COPY_AGAIN)
    if digest_of(content, manifest.digest) != manifest.digest:
        raise BundleError(
            "the manifest was changed", where=file, expected=f"sha256 {manifest.digest}", remedy=COPY_AGAIN
        )
    if problems := list(contradictions(manifest)):
        raise BundleError(f"the manifest contradicts itself: {'; '.join(problems)}", where=file, remedy=COPY_AGAIN)
    return manifest


def parse_json(content: bytes, file: Path) -> dict[str, object]:
    try:
        raw = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BundleError("the manifest is not JSON", where=file, got=on_one_line(error), remedy=COPY_AGAIN) from error
    if not isinstance(raw, dict):
        raise BundleError("the manifest is not a JSON object", where=file, got=type(raw).__name__, remedy=COPY_AGAIN)
    return raw


def impossible_values(value: object, path: str = "$") -> Iterator[str]:
    """Find values that Python's JSON parser accepts but a manifest cannot hold: NaN, infinity and lone surrogates."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{value} at {path}"
    elif isinstance(value, str) and not is_text(value):
        yield f"half a character (a surrogate) at {path}"
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from impossible_values(item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from impossible_values(key, f"a key of {path}")
            yield from impossible_values(item, f"{path}.{key}" if is_text(key) else path)


def is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def unknown_fields(raw: object, known: object, path: str = "") -> Iterator[str]:
    """Find the fields of `raw`, at any depth, that are not in `known`, the same data after decoding."""
    if isinstance(raw, dict) and isinstance(known, dict):
        for key, value in raw.items():
            if key not in known:
                yield f"{path}{key}"
            else:
                yield from unknown_fields(value, known[key], f"{path}{key}.")
    elif isinstance(raw, list) and isinstance(known, list | tuple):
        for index, (value, other) in enumerate(zip(raw, known, strict=True)):
            yield from unknown_fields(value, other, f"{path}{index}.")


def contradictions(manifest: Manifest) -> Iterator[str]:
    """Find contradictions in a well-formed manifest, each as one clause."""
    images, logits = ([len(value.shape) for value in side] for side in (manifest.inputs, manifest.outputs))
    if images != [4] or logits != [2]:
        yield "expected one input [N, C, H, W] and one output [N, classes]"
        return
    shape, (_, classes) = manifest.inputs[0].shape, manifest.outputs[0].shape
    sizes = [*shape[1:], classes]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        yield f"expected images and classes of fixed sizes, got {sizes}"
        return
    if classes != len(manifest.labels):
        yield f"{len(manifest.labels)} labels for {classes} classes"
    if list(shape[1:]) != [manifest.preprocessing.channels, *manifest.preprocessing.image_size]:
        yield f"the input takes images {list(shape[1:])}, preprocessing makes another size"
    yield from manifest.preprocessing.problems()
    yield from manifest.scores.problems(int(classes))
    yield from spec_contradictions(manifest)
    yield from (f"check {check.name} failed" for check in manifest.checks if check.passed is False)
    if (manifest.precision == "fp32") != (manifest.lowering is None):
        yield f"{manifest.precision} with{'out' if manifest.lowering is None else ''} a record of lower precision"
    most = most_images([int(size) for size in shape[1:]])
    if not 1 <= manifest.max_batch <= most:
        yield f"max_batch is {manifest.max_batch}, expected 1 to {most}"
    yield from file_contradictions(manifest)
    yield from fewer_branches_contradictions(manifest)
    if (manifest.runtime is None) != (manifest.format < RUNTIME_FORMAT):
        yield f"format {manifest.format} with{'out' if manifest.runtime is None else ''} a runtime block"
    if manifest.runtime is not None and manifest.runtime.file not in manifest.files:
        yield f"the runtime opens {manifest.runtime.file}, which the manifest does not list"


def file_contradictions(manifest: Manifest) -> Iterator[str]:
    if MODEL not in manifest.files:
        yield f"{MODEL} is not listed"
    for name, entry in manifest.files.items():
        if not is_inside(name):
            yield f"{name} is a file outside the bundle"
        if entry.size_bytes < 0:
            yield f"{name} has {entry.size_bytes} bytes"


def fewer_branches_contradictions(manifest: Manifest) -> Iterator[str]:
    """Find contradictions in the models with fewer branches."""
    smaller = manifest.fewer_branches
    if not smaller:
        return
    if manifest.spec is None or manifest.runtime is None or manifest.runtime.file != MODEL:
        yield "models with fewer branches, but the whole model has no spec or runs from another file"
        return
    counts = [model.branches for model in smaller]
    if counts != sorted(set(counts)) or not 0 < counts[0] <= counts[-1] < manifest.spec.branches:
        yield f"models with {', '.join(map(str, counts))} of {manifest.spec.branches} branches"
    for model in smaller:
        if model.file != first_branches_model(model.branches) or model.file not in manifest.files:
            yield f"the model with {model.branches} branches is {model.file}, which is another name or not listed"
        yield from (
            f"check {check.name} of {model.branches} branches failed" for check in model.checks if check.passed is False
        )
        if (manifest.precision == "fp32") != (model.lowering is None):
            yield f"{model.branches} branches with another precision than {manifest.precision}"


def spec_contradictions(manifest: Manifest) -> Iterator[str]:
    """Find contradictions between the spec and the model's input and output."""
    if (spec := manifest.spec) is None:
        return
    yield from (f"spec: {problem}" for problem in spec.problems())
    sizes = [spec.channels, *spec.image_size, spec.classes]
    if sizes != [*manifest.inputs[0].shape[1:], manifest.outputs[0].shape[1]]:
        yield f"spec: channels, height, width and classes are {sizes}, the model has other sizes"


def most_images(image: Sequence[int]) -> int:
    """Return the largest possible batch of images [C, H, W] in float32."""
    return min(MOST_BATCH, max(1, BATCH_BYTES // (4 * math.prod(image))))


def seal(manifest: Manifest) -> Manifest:
    """Fill in the manifest's own digest."""
    blank = dataclasses.replace(manifest, digest=NO_DIGEST)
    return dataclasses.replace(blank, digest=hashlib.sha256(encode(blank)).hexdigest())
