"""`paraexport doctor`: what this machine can build and run, and what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass

import click

from paraexport import __version__, targets
from paraexport.cli.options import output_options
from paraexport.cli.output import emit_json
from paraexport.cli.render import print_table
from paraexport.cli.stages import Stages
from paraexport.errors import MissingError
from paraexport.findings.document import plain_table
from paraexport.system.cpus import usable_cpus
from paraexport.system.extras import install
from paraexport.targets.versions import release

MODULES = {"pillow": "PIL", "onnxruntime-gpu": "onnxruntime"}
"""The module of a library whose name tells another."""
RIVALS = {"onnxruntime": "onnxruntime-gpu", "onnxruntime-gpu": "onnxruntime"}
"""Libraries that install the same module: one of them is enough, and both overwrite each other."""
PURPOSES = {
    "": "everything",
    "cpu": "running bundles on the CPU",
    "gpu": "running bundles on an NVIDIA GPU",
    "gpu-rtx": "running bundles on an NVIDIA RTX GPU, by ONNX Runtime",
    "openvino": "running bundles with OpenVINO",
    "build": "building bundles",
    "tensorrt": "TensorRT engines, on the GPU that is to run them",
    "rtx": "TensorRT-RTX engines, built here or on a GPU",
    "bench": "benchmarks beside its peers",
}
REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)[^;>]*(?:>=(?P<minimum>[\d.]+))?.*?(?:extra == ['\"](?P<extra>[\w-]+)['\"])?$"
)


@dataclass(frozen=True)
class Requirement:
    """One library that paraexport, or one of its extras, asks for."""

    name: str
    minimum: str
    extra: str
    """`` for one that paraexport always needs."""


@dataclass(frozen=True)
class Library:
    name: str
    version: str | None
    """None where it is not installed."""
    problem: str
    """Why it cannot be used, or empty."""
    purpose: str
    remedy: str
    extra: str


@dataclass(frozen=True)
class TargetState:
    name: str
    version: str | None
    missing: str
    remedy: str
    idle: str
    """Why it can build and not run; empty where it can run."""
    device: str
    """That it compiles for; empty where it does not compile."""
    slow_int8: str
    """What int8 costs here where it is not as fast as elsewhere."""


@dataclass(frozen=True)
class Diagnosis:
    paraexport: str
    python: str
    platform: str
    cpus: int
    libraries: tuple[Library, ...]
    targets: tuple[TargetState, ...]
    can_run: bool
    can_build: bool


@click.command("doctor")
@output_options
def command(*, as_json: bool, quiet: bool) -> None:
    """Show what this machine can build and run, and what is missing.

    Every library is imported, so that one which is installed but broken is found. The exit code is 3 only when no
    target can run here.

    \b
    Examples:
      paraexport doctor
      paraexport doctor --json
    """
    with Stages(quiet=quiet) as stages:
        stages("importing libraries")
        found = diagnose()
    if as_json:
        emit_json(found)
    else:
        show(found)
    if not found.can_run:
        raise click.exceptions.Exit(3)


def diagnose() -> Diagnosis:
    libraries = tuple(map(examine, requirements()))
    states = tuple(map(target_state, targets.TARGETS))
    can_run = any(state.version and not state.idle for state in states)
    can_build = can_run and not any(one.problem for one in libraries if one.extra in ("", "build"))
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Diagnosis(
        __version__, platform.python_version(), system, usable_cpus(), libraries, states, can_run, can_build
    )


def requirements() -> Iterator[Requirement]:
    """What the installed package says that it needs."""
    try:
        lines = importlib.metadata.requires("paraexport") or ()
    except importlib.metadata.PackageNotFoundError:
        raise MissingError("paraexport is not installed, only its sources are here", remedy="pip install it") from None
    for line in lines:
        if found := REQUIREMENT.match(line):
            yield Requirement(found["name"], found["minimum"] or "", found["extra"] or "")


def examine(wanted: Requirement) -> Library:
    command = install(wanted.extra) if wanted.extra else f"pip install '{wanted.name}>={wanted.minimum}'"
    version, rival = installed(wanted.name), installed(RIVALS.get(wanted.name, ""))
    problem = problem_with(wanted, version) if version or not rival else ""
    if version and rival:
        problem, command = f"{RIVALS[wanted.name]} overwrites it", f"pip uninstall {RIVALS[wanted.name]}"
    purpose = PURPOSES.get(wanted.extra, wanted.extra)
    return Library(wanted.name, version, problem, purpose, command if problem else "", wanted.extra)


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name) if name else None
    except importlib.metadata.PackageNotFoundError:
        return None


def problem_with(wanted: Requirement, version: str | None) -> str:
    """Why the installed `version` cannot be used, or nothing."""
    if version is None:
        return "missing"
    try:
        importlib.import_module(MODULES.get(wanted.name, wanted.name.replace("-", "_")))
    except Exception as error:  # a broken library may raise anything
        return f"cannot be imported: {type(error).__name__}: {error}"
    return f"too old, {wanted.minimum} or later is needed" if release(version) < release(wanted.minimum) else ""


def target_state(name: str) -> TargetState:
    target, compiler = targets.get(name), targets.compiler(name)
    here, device = target.availability(), "" if compiler is None else compiler.here()
    slow_int8 = target.slow_int8() if here.version and not here.idle else ""
    return TargetState(name, here.version, here.missing, here.remedy, here.idle, device, slow_int8)


def show(found: Diagnosis) -> None:
    print(f"paraexport {found.paraexport}, Python {found.python}, {found.platform}, {found.cpus} CPUs\n")
    rows = [
        (
            one.name,
            one.version or ("missing" if one.problem else "not needed"),
            one.purpose,
            one.problem if one.version else "",
            one.remedy,
        )
        for one in found.libraries
    ]
    print_table(plain_table(("library", "version", "needed for", "problem", "remedy"), rows))
    print()
    states = [(one.name, state_text(one), one.remedy) for one in found.targets]
    print_table(plain_table(("target", "state", "remedy"), states))
    print(f"\nrun bundles (predict, validate):  {'yes' if found.can_run else 'no'}")
    print(f"build bundles (build, inspect):   {'yes' if found.can_build else 'no'}")


def state_text(state: TargetState) -> str:
    if state.version is None:
        return state.missing
    if state.idle:
        return f"can build but not run, {state.version}: {state.idle}"
    device, slow = state.device and f", on {state.device}", state.slow_int8 and f"; {state.slow_int8}"
    return f"available, {state.version}{device}{slow}"
