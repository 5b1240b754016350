"""Opens sessions of ONNX Runtime on a GPU, and checks that they really run there.

ONNX Runtime falls back to the CPU in four ways:

1. It leaves out a provider that cannot be loaded. The session's list of providers shows this.
2. Its Python code opens the session again with other providers if one raises. This is switched off.
3. It does the same if a run fails. This is switched off too.
4. It puts a node on the CPU if the provider has no kernel for it. A profile of one run shows this.
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
from paraexport.system.files import cache_folder, file_digest
from paraexport.targets.ort import available
from paraexport.targets.ort.placement import read_placement, require_on
from paraexport.targets.ort.provider import TF32, Provider
from paraexport.targets.ort.settings import apply_settings
from paraexport.targets.runtime import CACHE, Runtime
from paraexport.targets.target import Workload
from paraexport.targets.trt.device import find_device

if TYPE_CHECKING:
    import onnxruntime


def open_session(provider: Provider, model: Path, workload: Workload, runtime: Runtime) -> onnxruntime.InferenceSession:
    """A session of the model. One run has shown that the provider computes all of it.

    Raises:
        MissingError: the session cannot be opened there, or ONNX Runtime runs some nodes elsewhere.
    """
    for name, value in runtime.environment.items():
        os.environ.setdefault(name, value)
    available.preload(provider)
    with tempfile.TemporaryDirectory() as work:
        session = create_session(provider, model, workload, runtime, Path(work))
        if (providers := session.get_providers())[0] != provider.provider:
            raise not_opened(provider, f"a session on {', '.join(providers)}")
        session.run(None, {INPUT: np.zeros((1, *workload.image), np.float32)})
        require_on(provider, read_placement(Path(session.end_profiling())))
    return session


def create_session(
    provider: Provider, model: Path, workload: Workload, runtime: Runtime, work: Path
) -> onnxruntime.InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling, options.profile_file_prefix = True, str(work / "profile")
    apply_settings(options, runtime.settings, model)
    cache = work
    if provider.compiles:
        with contextlib.suppress(OSError):  # nothing is cached if the folder cannot be written
            cache = engine_folder(provider, model, workload)
    settings = {name: value.replace(CACHE, str(cache)) for name, value in runtime.device_options.items()}
    try:
        providers = None
        if provider.plugin:
            options.add_provider_for_devices(available.plugin_devices(provider)[:1], settings)
        else:
            providers = [(provider.provider, settings)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a missing provider, which is an error in `open_session`
            return onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=False)
    except Exception as error:  # ONNX Runtime passes on any error of the provider
        raise not_opened(provider, available.one_line(error)) from error


def not_opened(provider: Provider, got: str) -> MissingError:
    return MissingError(
        "ONNX Runtime did not open the model on the GPU",
        where=f"target {provider.name}",
        expected=f"a session on {provider.provider}",
        got=got,
        remedy="run `paraexport doctor` to see what is missing, or use --target onnxruntime on the CPU",
    )


def engine_folder(provider: Provider, model: Path, workload: Workload) -> Path:
    """The folder in which the provider caches engines of exactly this model on this machine.

    The provider names a cached engine after the graph alone. In a shared folder, a model with other weights in the same
    graph would get the wrong engine.
    """
    files = [model, *model.parent.glob(f"{model.name}.data")]
    versions = [available.version_of(name) for name in ("onnxruntime", *provider.preload, provider.plugin) if name]
    settings = [workload.image, workload.max_batch, workload.precision, os.environ.get(TF32)]
    facts = [provider.name, *settings, find_device(), *versions, *(file_digest(file).hex() for file in files)]
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    folder = cache_folder("onnxruntime") / f"{provider.name}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
