"""Lists the options that ONNX Runtime's providers know, from their wheels alone: `python extract_options.py WHEEL...`

`pip download --no-deps onnxruntime-gpu==1.31.1 onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0` gets the wheels of the lists
that are here. TensorRT-RTX's plugin brings a header with its options. The other libraries hold theirs as strings: those
of TensorRT by their prefix; those of CUDA, which have none, by the names in ONNX Runtime's documents. The Python
binding reads TensorRT's options itself, and its errors say which of them have to be `True` or `False`.
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

CUDA = (
    "arena_extend_strategy cudnn_conv1d_pad_to_nc1d cudnn_conv_algo_search cudnn_conv_use_max_workspace device_id "
    "do_copy_in_default_stream enable_cuda_graph enable_skip_layer_norm_strict_mode gpu_mem_limit "
    "has_user_compute_stream prefer_nhwc tunable_op_enable tunable_op_tuning_enable use_ep_level_unified_stream "
    "use_tf32 user_compute_stream"
).replace(" ", "|")
"""https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html#configuration-options"""
SOURCES = {
    "libonnxruntime_providers_cuda.so": ("onnxruntime-cuda", rf"\0({CUDA})(?=\0)"),
    "libonnxruntime_providers_tensorrt.so": ("onnxruntime-tensorrt", r"\0(trt_[a-z0-9_]+|device_id)(?=\0)"),
    "tensorrt_rtx_provider_options.h": (
        "onnxruntime-tensorrt-rtx",
        r'constexpr const char\* k\w+ = "(\w+)"',
    ),
}
BINDING = (
    "onnxruntime_pybind11_state",
    ("onnxruntime-tensorrt-true-or-false", r"\[TensorRT\] The value for the key '(\w+)' should be 'True' or 'False'"),
)
"""The binding's name goes on with the version of Python."""


def lists(wheel: Path) -> Iterator[tuple[str, list[str]]]:
    """(target, names) of each library in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            name = Path(member).name
            source = BINDING[1] if name.startswith(BINDING[0]) else SOURCES.get(name)
            if source is not None:
                content = archive.read(member).decode("latin-1")
                yield source[0], sorted({*re.findall(source[1], content)})


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        for target, names in lists(Path(argument)):
            (Path(__file__).parent / f"{target}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
