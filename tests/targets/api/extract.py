"""Lists what TensorRT's Python bindings and CUDA's driver offer, from wheels alone: `python extract.py WHEEL...`

`pip download --no-deps tensorrt-cu13-bindings==VERSION` gets a wheel. Its module wants TensorRT's libraries, which are
not in it, only for a handful of functions; empty libraries with these let it be imported, and asked for its names.
`nvidia-cuda-runtime` has cuda.h; behind the preprocessor it has the names that the driver's library exports, such as
cuMemAlloc_v2 for cuMemAlloc: each is listed with the number of its parameters.
Needs a C compiler and binutils, and the Python that the wheel is for.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parent
CLASSES = (
    "Builder", "BuilderFlag", "EngineInspector", "ExecutionContextAllocationStrategy", "HardwareCompatibilityLevel",
    "IAttention", "IAttentionInputLayer", "IBuilderConfig", "ICudaEngine", "IExecutionContext", "IHostMemory", "ILayer",
    "ILogger", "INetworkDefinition", "IOptimizationProfile", "IProgressMonitor", "IRuntimeConfig", "ITensor",
    "ITimingCache", "LayerInformationFormat", "LayerType", "MemoryPoolType", "NetworkDefinitionCreationFlag",
    "OnnxParser", "OnnxParserRefitter", "ParserError", "ProfilingVerbosity", "Refitter", "Runtime", "TensorIOMode",
)  # fmt: skip
LIST = f"""
import tensorrt_bindings as trt
names = [n for n in dir(trt) if not n.startswith("_")]
for c in {CLASSES!r}:
    names += [f"{{c}}.{{n}}" for n in dir(getattr(trt, c, None)) if not n.startswith("_")]
print(trt.__version__, *sorted(names), sep="\\n")
"""


def extract(wheel: Path) -> tuple[str, list[str]]:
    """(version, names): `Builder`, `Builder.create_network`, …"""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        zipfile.ZipFile(wheel).extractall(folder)
        library = folder / "tensorrt_bindings" / "tensorrt.so"
        wanted = re.findall(r"NEEDED.*\[(libnv\S+)\]", printed("readelf", "-d", str(library)))
        missing = re.findall(r" U (\w+)$", printed("nm", "-D", "--undefined-only", str(library)), re.MULTILINE)
        ours = [name for name in missing if name.startswith(("create", "getBuilder", "getNv", "getPlugin", "initLib"))]
        source = folder / "empty.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in ours))
        for name in wanted:
            printed("cc", "-shared", "-fPIC", "-o", str(folder / name), str(source))
        version, *names = printed(sys.executable, "-c", LIST, cwd=folder).splitlines()
    return version, names


def extract_driver(wheel: Path) -> tuple[str, list[str]]:
    """(version of CUDA, functions): `cuGraphLaunch 2`, …"""
    with tempfile.TemporaryDirectory() as work:
        zipfile.ZipFile(wheel).extractall(work)
        (header,) = Path(work).rglob("cuda.h")
        version = int(re.findall(r"define CUDA_VERSION (\d+)", header.read_text())[0])
        text = " ".join(printed("cc", "-E", "-P", "-x", "c", str(header)).split())
    found = re.findall(r"CUresult (cu[A-Z]\w*)\(([^;]*)\);", text)
    lines = {f"{name} {0 if parameters in ('', 'void') else parameters.count(',') + 1}" for name, parameters in found}
    return f"{version // 1000}.{version % 1000 // 10}", sorted(lines)


def printed(*command: str, cwd: Path | None = None) -> str:
    environment = None if cwd is None else {"LD_LIBRARY_PATH": str(cwd), "PYTHONPATH": str(cwd)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=cwd, env=environment)
    return done.stdout


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        wheel = Path(argument)
        kind, of = ("cuda", extract_driver) if "cuda_runtime" in wheel.name else ("tensorrt", extract)
        version, names = of(wheel)
        (FOLDER / f"{kind}-{version}.txt").write_text("\n".join(names) + "\n")
        print(f"{kind} {version}: {len(names)} names")
