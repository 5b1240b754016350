"""What a checkpoint says in words: the configs beside it, its own record, and files of labels."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from paraexport.checkpoint.config_files import parse_json, read_config
from paraexport.checkpoint.given import Guesses
from paraexport.checkpoint.load import from_weights
from paraexport.checkpoint.overrides import parse_overrides
from paraexport.checkpoint.words import TABLES
from paraexport.checkpoint.wrappers import Weights
from paraexport.errors import CheckpointError
from paraexport.findings.assumptions import Assumption
from paraexport.model.spec import Preprocessing, Spec
from tests.checkpoint.writers import HF_NEW, NATIVE, TIMM, Names, random_weights, state_dict
from tests.faults.json_damage import damage_json
from tests.faults.mutation import mutate
from tests.faults.reader import Reader

SPEC = Spec(
    image_size=(8, 8), channels=3, classes=3, patch_size=(4, 4), dim=8, branches=2, depth=1, heads=2, head_dim=4,
    mlp_dim=8, norm="before", eps=1e-6, patch_projection="conv",
)  # fmt: skip
LABELS = {"0": "cat", "1": "dog", "2": "eel"}
HF = {
    "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_act": "gelu", "hidden_size": 8,
    "intermediate_size": 8, "num_attention_heads": 2, "num_hidden_layers": 1, "image_size": 8, "patch_size": 4,
    "num_channels": 3, "layer_norm_eps": 1e-12, "qkv_bias": True, "id2label": LABELS,
    "label2id": {"cat": 0, "dog": 1, "eel": 2}, "transformers_version": "5.24.0",
}  # fmt: skip
PROCESSORS = (
    {
        "image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 8, "width": 8},
        "resample": 2, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.4, 0.3],
    },
    {
        "feature_extractor_type": "CLIPFeatureExtractor", "size": 8, "do_center_crop": True, "crop_size": 8,
        "do_normalize": True, "image_mean": [0.5], "image_std": 0.5, "do_convert_rgb": True,
    },
    {
        "image_processor_type": "EfficientNetImageProcessor", "size": [8, 8], "rescale_offset": True,
        "rescale_factor": 1 / 127.5,
    },
    {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 8}, "crop_pct": 0.9},
)  # fmt: skip
TIMM_CONFIG = {
    "architecture": "vit_tiny_patch16_224", "num_classes": 3, "num_features": 8, "global_pool": "token",
    "label_names": ["cat", "dog", "eel"],
    "model_args": {"img_size": 8, "num_heads": 2, "act_layer": "gelu", "init_values": None, "mlp_ratio": 1.0},
    "pretrained_cfg": {
        "input_size": [3, 8, 8], "fixed_input_size": True, "interpolation": "bicubic", "crop_pct": 0.9,
        "crop_mode": "center", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "test_input_size": None,
    },
}  # fmt: skip
ARGS = {
    "model": {"dim": 8, "depth": 1, "heads": 2, "pool": "cls", "activation": "gelu", "norm_first": True},
    "data": {"image_size": [8, 8], "size": 9, "mean": 0.5, "std": [0.2], "labels": ["cat", "dog", "eel"]},
    "lr": 1e-3, "epochs": 90,
}  # fmt: skip
RECORD = {
    "spec": dataclasses.asdict(dataclasses.replace(SPEC, norm="after")),
    "preprocessing": dataclasses.asdict(Preprocessing(image_size=(8, 8), channels=3, resize=9)),
    "labels": list(LABELS.values()),
}


def words(*tables: Mapping[str, object]) -> list[str]:
    return sorted({word for table in tables for word in table} | {"", "unknown", "x" * 300, "a\nb"})


@cache
def weights(convention: str) -> Weights:
    names: Names = {"hf": HF_NEW, "timm": TIMM, "own": NATIVE}[convention]
    return Weights(state_dict(names.write(random_weights(SPEC), SPEC)))


def write_down(labels: tuple[str, ...], preprocessing: Preprocessing, assumptions: tuple[Assumption, ...]) -> None:
    for text in (*labels, *(item.value for item in assumptions), *(item.reason for item in assumptions)):
        text.encode()
        assert "\n" not in text
    # what is read can be used: finite numbers, and sizes that do not fill the memory
    json.dumps(dataclasses.asdict(preprocessing), allow_nan=False)
    sides = (preprocessing.resize,) * 2 if isinstance(preprocessing.resize, int) else preprocessing.resize
    assert min(sides) >= 8
    assert sides[0] * sides[1] < 10**8


def read_configs(file: Path) -> None:
    """Load weights with the file where a config of its kind stands, as far as its kind can still be seen."""
    try:
        content = inside(file)
    except CheckpointError:
        content = None
    keys = content.keys() if isinstance(content, dict) else ()
    tensors, within, beside = weights("hf"), {}, {"config.json": HF}
    if "model" in keys:
        tensors, within, beside = weights("timm"), {"args": content}, {}
    elif "architecture" in keys or "pretrained_cfg" in keys:
        tensors, beside = weights("timm"), {"config.json": read_config(file)}
    elif "image_processor_type" in keys or "feature_extractor_type" in keys:
        beside |= {"preprocessor_config.json": read_config(file)}
    else:
        beside = {"config.json": read_config(file)}
    said = parse_overrides({"heads": "2"} if within else {})
    loaded = from_weights(Weights(tensors.tensors, within), beside, said, Guesses())
    write_down(loaded.labels, loaded.preprocessing, loaded.assumptions)


def inside(file: Path) -> Any:
    """Any value that a pickle may hold as well."""
    try:
        return parse_json(file.read_bytes().decode("utf-8", errors="surrogatepass"))
    except ValueError as error:
        raise CheckpointError("not the file that this campaign is about") from error


def read_record(file: Path) -> None:
    content = inside(file)
    held = Weights(weights("own").tensors, content if isinstance(content, dict) else {"spec": content})
    loaded = from_weights(held, {}, parse_overrides({"heads": "2"}), Guesses())
    write_down(loaded.labels, loaded.preprocessing, loaded.assumptions)


def read_labels(file: Path) -> None:
    labels = parse_overrides({"labels": str(file)}).labels
    assert labels
    write_down(labels, Preprocessing(image_size=(8, 8), channels=3, resize=8), ())


def seeds(*configs: object) -> Any:
    def write(_folder: Path) -> Sequence[bytes]:
        return [json.dumps(config).encode() for config in configs]

    return write


def label_files(_folder: Path) -> Sequence[bytes]:
    lines = "\ufeffcat\r\ndog\r\nsea lion\n".encode()
    return [json.dumps(LABELS).encode(), json.dumps(list(LABELS.values())).encode(), lines]


def damage_labels(data: bytes, pick: Any) -> bytes:
    return damage_json(["0", "1", "2", "01", "-1", "cat"])(data, pick) if data[:1] in b"[{" else mutate(data, pick)


READERS = (
    Reader(
        "configs",
        seeds(HF, TIMM_CONFIG, ARGS, *PROCESSORS),
        read_configs,
        ".json",
        damage_json(words(*TABLES.values())),
    ),
    Reader("record", seeds(RECORD), read_record, ".json", damage_json(words(RECORD, dataclasses.asdict(SPEC)))),
    Reader("labels", label_files, read_labels, "", damage_labels),
)
