"""A session of ONNX Runtime on a GPU, which is opened only when it is seen to run there.

ONNX Runtime falls back to the CPU in four ways. A provider that cannot be loaded is left out; Python makes the session
again with other providers when one raises, and once more when a run fails; and a node that the provider has no kernel
for goes to the CPU. The second and third are switched off, the first is seen in the session's list of providers, the
last in a profile of one run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from paraexport.errors import MissingError
from paraexport.model.spec import INPUT
from paraexport.system.files import cache_folder, sha256_of
from paraexport.targets.ort import available
from paraexport.targets.ort.placement import placed_in, require_on
from paraexport.targets.ort.provider import Provider
from paraexport.targets.target import Workload
from paraexport.targets.trt.device import find_device

if TYPE_CHECKING:
    import onnxruntime

NO_FALLBACK = "session.disable_cpu_ep_fallback"
TF32 = "NVIDIA_TF32_OVERRIDE"
"""0 keeps NVIDIA's libraries from TF32, whatever a program asks of them."""


def open_session(provider: Provider, model: Path, workload: Workload) -> onnxruntime.InferenceSession:
    """A session of the model that was seen to run on the provider alone.

    Raises:
        MissingError: it cannot be opened there, or ONNX Runtime runs some of it elsewhere.
    """
    if provider.compiles:
        # These providers have no option for it, and an engine must run as it was built: so for the whole process.
        os.environ.setdefault(TF32, "0")
    available.preload(provider)
    with tempfile.TemporaryDirectory() as work:
        session = created(provider, model, workload, Path(work))
        if (got := session.get_providers())[0] != provider.provider:
            raise refused(provider, f"a session on {', '.join(got)}")
        session.run(None, {INPUT: np.zeros((1, *workload.image), np.float32)})
        require_on(provider, placed_in(Path(session.end_profiling())))
    return session


def created(provider: Provider, model: Path, workload: Workload, work: Path) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling, options.profile_file_prefix = True, str(work / "profile")
    if provider.compiles:
        # All of it goes into one engine, shapes too: then ONNX Runtime itself can refuse the CPU. TensorRT optimises.
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry(NO_FALLBACK, "1")
    cache = work
    if provider.compiles:
        with contextlib.suppress(OSError):  # nothing is kept where the folder cannot be written
            cache = engine_folder(provider, model, workload)
    settings = dict(provider.options(workload, cache))
    try:
        chosen = None
        if provider.plugin:
            options.add_provider_for_devices(available.plugin_devices(provider)[:1], settings)
        else:
            chosen = [(provider.provider, settings)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the provider is not there: an error below
            return onnxruntime.InferenceSession(model, options, providers=chosen, enable_fallback=False)
    except Exception as error:  # ONNX Runtime raises whatever the provider does
        raise refused(provider, available.one_line(error)) from error


def refused(provider: Provider, got: str) -> MissingError:
    return MissingError(
        "ONNX Runtime did not open the model on the GPU",
        where=f"target {provider.name}",
        expected=f"a session on {provider.provider}",
        got=got,
        remedy="paraexport doctor tells what is missing; --target onnxruntime is for the CPU",
    )


def engine_folder(provider: Provider, model: Path, workload: Workload) -> Path:
    """Where the provider keeps engines of this model, here, only.

    The provider names a cached engine after the graph alone: other weights in the same graph would get its answers.
    """
    files = [model, *model.parent.glob(f"{model.name}.data")]
    versions = [available.version_of(name) for name in ("onnxruntime", *provider.preload, provider.plugin) if name]
    settings = [workload.image, workload.max_batch, workload.precision, os.environ.get(TF32)]
    parts = [provider.name, *settings, find_device(), *versions, *map(sha256_of, files)]
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
    folder = cache_folder("onnxruntime") / f"{provider.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
