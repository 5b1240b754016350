"""Defines `paraexport doctor`, which shows what this machine can build and run, and what is missing."""

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
"""The modules of libraries whose name is different."""
RIVALS = {"onnxruntime": "onnxruntime-gpu", "onnxruntime-gpu": "onnxruntime"}
"""Libraries that install the same module. One of them is enough; two overwrite each other."""
PURPOSES = {
    "": "everything",
    "cpu": "running bundles on the CPU",
    "gpu": "running bundles on an NVIDIA GPU",
    "gpu-rtx": "running bundles on an NVIDIA RTX GPU with ONNX Runtime",
    "openvino": "running bundles with OpenVINO",
    "build": "building bundles",
    "report": "pages of bundles",
    "tensorrt": "TensorRT engines, built on the GPU that runs them",
    "rtx": "TensorRT-RTX engines, built with or without a GPU",
    "bench": "benchmarks against similar tools",
}
REQUIREMENT = re.compile(
    r"(?P<name>[\w.-]+)[^;>]*(?:>=(?P<minimum>[\d.]+))?.*?(?:extra == ['\"](?P<extra>[\w-]+)['\"])?$"
)


@dataclass(frozen=True)
class Requirement:
    """A library that paraexport or one of its extras requires."""

    name: str
    minimum: str
    extra: str
    """The extra that requires it; empty if paraexport always needs it."""


@dataclass(frozen=True)
class Library:
    name: str
    version: str | None
    """None if it is not installed."""
    problem: str
    """Why it cannot be used; empty if it can."""
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
    """Why it can build but not run here; empty if it can run."""
    device: str
    """The device that it compiles for; empty if it does not compile."""
    slow_int8: str
    """Why int8 is slow on this machine; empty if it is not."""


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

    This imports every library, to find those that are installed but broken. The exit code is 3 only if no target can
    run here.

    \b
    Examples:
      paraexport doctor
      paraexport doctor --json
    """
    with Stages(quiet=quiet) as stages:
        stages("importing libraries")
        diagnosis = diagnose()
    if as_json:
        emit_json(diagnosis)
    else:
        show(diagnosis)
    if not diagnosis.can_run:
        raise click.exceptions.Exit(3)


def diagnose() -> Diagnosis:
    libraries = tuple(map(examine, requirements()))
    states = tuple(map(target_state, targets.TARGETS))
    can_run = any(state.version and not state.idle for state in states)
    can_build = can_run and not any(library.problem for library in libraries if library.extra in ("", "build"))
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Diagnosis(
        __version__, platform.python_version(), system, usable_cpus(), libraries, states, can_run, can_build
    )


def requirements() -> Iterator[Requirement]:
    """List the requirements of the installed package."""
    try:
        lines = importlib.metadata.requires("paraexport") or ()
    except importlib.metadata.PackageNotFoundError:
        raise MissingError(
            "paraexport is not installed, only its source code is here", remedy="install it with pip"
        ) from None
    for line in lines:
        if match := REQUIREMENT.match(line):
            yield Requirement(match["name"], match["minimum"] or "", match["extra"] or "")


def examine(required: Requirement) -> Library:
    command = install(required.extra) if required.extra else f"pip install '{required.name}>={required.minimum}'"
    version, rival = installed(required.name), installed(RIVALS.get(required.name, ""))
    problem = problem_with(required, version) if version or not rival else ""
    if version and rival:
        problem, command = f"{RIVALS[required.name]} overwrites it", f"pip uninstall {RIVALS[required.name]}"
    purpose = PURPOSES.get(required.extra, required.extra)
    return Library(required.name, version, problem, purpose, command if problem else "", required.extra)


def installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name) if name else None
    except importlib.metadata.PackageNotFoundError:
        return None


def problem_with(required: Requirement, version: str | None) -> str:
    """Return why the installed `version` cannot be used; empty if it can."""
    if version is None:
        return "missing"
    try:
        importlib.import_module(MODULES.get(required.name, required.name.replace("-", "_")))
    except Exception as error:  # a broken library may raise anything
        return f"cannot be imported: {type(error).__name__}: {error}"
    return f"too old, {required.minimum} or later is needed" if release(version) < release(required.minimum) else ""


def target_state(name: str) -> TargetState:
    target, compiler = targets.get(name), targets.compiler(name)
    here, device = target.availability(), "" if compiler is None else compiler.here()
    slow_int8 = target.slow_int8() if here.version and not here.idle else ""
    return TargetState(name, here.version, here.missing, here.remedy, here.idle, device, slow_int8)


def show(diagnosis: Diagnosis) -> None:
    system = f"{diagnosis.platform}, {diagnosis.cpus} CPUs"
    print(f"paraexport {diagnosis.paraexport}, Python {diagnosis.python}, {system}\n")
    rows = [
        (
            library.name,
            library.version or ("missing" if library.problem else "not needed"),
            library.purpose,
            library.problem if library.version else "",
            library.remedy,
        )
        for library in diagnosis.libraries
    ]
    print_table(plain_table(("library", "version", "needed for", "problem", "remedy"), rows))
    print()
    states = [(state.name, state_text(state), state.remedy) for state in diagnosis.targets]
    print_table(plain_table(("target", "state", "remedy"), states))
    print(f"\nrun bundles (predict, validate):  {'yes' if diagnosis.can_run else 'no'}")
    print(f"build bundles (build, inspect):   {'yes' if diagnosis.can_build else 'no'}")


def state_text(state: TargetState) -> str:
    if state.version is None:
        return state.missing
    if state.idle:
        return f"can build but not run, {state.version}: {state.idle}"
    device, slow = state.device and f", on {state.device}", state.slow_int8 and f"; {state.slow_int8}"
    return f"available, {state.version}{device}{slow}"
