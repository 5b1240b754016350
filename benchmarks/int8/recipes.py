"""Writes int8 graphs with the other tools and with ours, from one model and the same calibration images.

The other tools read the plain export and `calibration.npy`, float32 [N, C, H, W]. Ours reads `model.pt` and the same
images. Files that do not exist yet are generated from a seed.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.subjects import PLAIN, RECIPES, SEED, Recipe

if TYPE_CHECKING:
    from paraexport.model.reference import ParaFormer

Floats = NDArray[np.float32]
NNCF, STATIC, DYNAMIC, MODELOPT, PREPARED = "nncf", "ort-static", "ort-dynamic", "modelopt", "ort-prepared"
TARGETS = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
LAYOUTS = ("folded", "stacked")
CALIBRATION_IMAGES = 64
MODELOPT_AT_MOST_S = 300


def recipes(modelopt_python: str) -> dict[str, Recipe]:
    """All int8 graphs by name, added to those of `subjects`; `modelopt_python` has NVIDIA ModelOpt."""
    return {
        **RECIPES,
        NNCF: Recipe(quantize_with_nncf, PLAIN, own_products=False),
        PREPARED: Recipe(prepare_for_onnxruntime, PLAIN, own_products=False),
        STATIC: Recipe(quantize_statically, PREPARED, own_products=False),
        DYNAMIC: Recipe(quantize_dynamically, PREPARED, own_products=False),
        MODELOPT: Recipe(functools.partial(quantize_with_modelopt, modelopt_python), PLAIN, own_products=False),
        **{
            ours(layout, target): Recipe(functools.partial(build_ours, layout, target), layout, own_products=False)
            for layout, target in itertools.product(LAYOUTS, TARGETS)
        },
    }


def ours(layout: str, target: str) -> str:
    """The name of our graph for a layout and a target."""
    return f"int8-{layout}-{target}"


def quantize_with_nncf(model: ParaFormer, path: Path) -> str:
    """NNCF, the tool of OpenVINO. It writes `model.xml` next to `path`."""
    import nncf
    import openvino

    images = calibration_images(model, path.parent.parent)
    plain = openvino.Core().read_model(path.parent.parent / PLAIN / path.name)
    with silent("nncf"):
        quantized = nncf.quantize(
            plain,
            nncf.Dataset([image[None] for image in images]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(images),
        )
    openvino.save_model(quantized, path.with_suffix(".xml"), compress_to_fp16=False)
    return f"nncf {nncf.__version__}"


def prepare_for_onnxruntime(_model: ParaFormer, path: Path) -> str:
    """The pre-processing that ONNX Runtime recommends before quantisation: infer shapes, optimize the graph."""
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with silent("root"):
        quant_pre_process(path.parent.parent / PLAIN / path.name, path)
    return ""


def quantize_statically(model: ParaFormer, path: Path) -> str:
    """Q/DQ around products with weights, with u8 activations and s8 weights, as its fastest kernels need."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, images: Floats) -> None:
            self.remaining = iter(images)

        def get_next(self) -> dict[str, Floats] | None:
            image = next(self.remaining, None)
            return None if image is None else {"images": image[None]}

    prepared = path.parent.parent / PREPARED / path.name
    excluded = activation_products(prepared)
    with silent("root"):
        quantize_static(
            prepared, path, Images(calibration_images(model, path.parent.parent)), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"], nodes_to_exclude=excluded, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
        )  # fmt: skip
    return f"{len(excluded)} products of two activations stay in float32"


def activation_products(path: Path) -> list[str]:
    """The names of the products of two activations. In static Q/DQ, `MatMulConstBOnly` does not exclude them."""
    import onnx

    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type == "MatMul" and node.input[1] not in constants]


def quantize_dynamically(_model: ParaFormer, path: Path) -> str:
    from onnxruntime.quantization import quantize_dynamic

    with silent("root"):
        quantize_dynamic(path.parent.parent / PREPARED / path.name, path, per_channel=True)
    return "computes scales of activations for each batch; needs no calibration"


def quantize_with_modelopt(python: str, model: ParaFormer, path: Path) -> str:
    """NVIDIA ModelOpt, in its own environment because it pins other versions of onnx and onnxruntime.

    It calibrates with `max`. With `entropy`, its default, the errors of logits on the example models were twice as
    large.

    Raises:
        ImportError: it is not installed there.
        RuntimeError: it failed; the message is its last error.
    """
    version = run(python, "-c", "import modelopt.onnx.quantization, modelopt; print(modelopt.__version__)")
    if version.returncode:
        raise ImportError(last_line(version))
    calibration_images(model, path.parent.parent)
    done = run(
        python, "-m", "modelopt.onnx.quantization", f"--onnx_path={path.parent.parent / PLAIN / path.name}",
        "--quantize_mode=int8", "--high_precision_dtype=fp32", "--calibration_eps=cpu", "--calibration_method=max",
        f"--calibration_data_path={path.parent.parent / 'calibration.npy'}", f"--output_path={path}",
    )  # fmt: skip
    if done.returncode or not path.exists():
        raise RuntimeError(last_line(done))
    return f"nvidia-modelopt {last_line(version)}, method max"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command without a GPU, with its errors in its output."""
    return subprocess.run(
        command, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=MODELOPT_AT_MOST_S,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """The last line with an error, or else the last line."""
    lines = done.stdout.strip().splitlines() or [f"exit code {done.returncode} and no output"]
    return next((line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception)\b", line)), lines[-1])


def build_ours(layout: str, target: str, model: ParaFormer, path: Path) -> str:
    """Build a bundle in the folder of `path`. Limits are off, because the benchmark measures the error itself."""
    import paraexport
    from paraexport.checks.limits import LIMITS

    folder = path.parent.parent
    calibration_images(model, folder)
    path.parent.rmdir()
    paraexport.build(
        checkpoint(model, folder), path.parent, target=target, precision="int8", layout=layout,
        calib=folder / "calibration.npy", limits=dict.fromkeys(LIMITS.get("int8", ()), 1e9),
    )  # fmt: skip
    return ""


def checkpoint(model: ParaFormer, folder: Path) -> Path:
    """The path of `model.pt`, which is written if it does not exist."""
    from paraexport.checkpoint.native import save_checkpoint
    from paraexport.model.spec import Preprocessing

    path, spec = folder / "model.pt", model.spec
    if not path.exists():
        middle = (0.5,) * spec.channels
        size = spec.image_size
        images = Preprocessing(image_size=size, channels=spec.channels, resize=size, mean=middle, std=middle)
        save_checkpoint(path, model, images, tuple(str(number) for number in range(spec.classes)))
    return path


def calibration_images(model: ParaFormer, folder: Path) -> Floats:
    """The images of `calibration.npy`, which is written if it does not exist."""
    path = folder / "calibration.npy"
    if not path.exists():
        shape = (CALIBRATION_IMAGES, model.spec.channels, *model.spec.image_size)
        np.save(path, np.random.default_rng(SEED + 1).standard_normal(shape, np.float32))
    return np.load(path)


@contextlib.contextmanager
def silent(logger: str) -> Iterator[None]:
    """Hide progress bars and advice, which would appear among the results."""
    log = logging.getLogger(None if logger == "root" else logger)
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with Path(os.devnull).open("w") as null, contextlib.redirect_stdout(null):
            yield
    finally:
        log.setLevel(level)
