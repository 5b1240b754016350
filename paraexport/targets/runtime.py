"""Records how a program opens a model, as data: the `runtime` block of a manifest, which every reader follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from paraexport.errors import BundleError, MissingError
from paraexport.targets.versions import release

CACHE = "{cache}"
"""Stands for a folder that the reader chooses, in options of a device."""
REMEDY = "update paraexport, or build the bundle again"


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Everything that decides how a model is opened. The reader chooses threads and logging."""

    library: str
    """`onnxruntime`, `openvino`, `tensorrt` or `tensorrt-rtx`."""
    minimum_version: str
    """The oldest version of the library that opens the file."""
    file: str
    """The file to open."""
    device: str
    """What the library calls it: `CPUExecutionProvider`, `CPU`, `GPU`."""
    settings: dict[str, str] = field(default_factory=dict)
    """Settings of the session, in the words of the library."""
    settings_if_int8_saturates: dict[str, str] = field(default_factory=dict)
    """Further settings on a CPU whose products of uint8 and int8 saturate; they replace those of the same name."""
    device_options: dict[str, str] = field(default_factory=dict)
    """Options of the device (in ONNX Runtime: of the execution provider)."""
    environment: dict[str, str] = field(default_factory=dict)
    """Variables of the process that must be set before the library is loaded."""

    def settings_here(self, saturates: Callable[[], bool]) -> dict[str, str]:
        """The settings on this CPU. `saturates` runs a product, so it is asked only if the answer matters."""
        return self.settings_for(bool(self.settings_if_int8_saturates) and saturates())

    def settings_for(self, saturates: bool) -> dict[str, str]:
        """The settings on a CPU whose int8 products saturate, or do not."""
        return {**self.settings, **(self.settings_if_int8_saturates if saturates else {})}


@dataclass(frozen=True)
class Known:
    """What a target can follow of a `runtime` block."""

    library: str
    file: str
    device: str
    settings: Collection[str] = ()
    device_options: Collection[str] = ()
    environment: Collection[str] = ()

    def require(self, runtime: Runtime, where: object) -> None:
        """Refuse a block that this target cannot follow to the letter.

        Raises:
            BundleError: another library, file or device, or a setting that is not known here.
        """
        for name in ("library", "file", "device"):
            expected, got = getattr(self, name), getattr(runtime, name)
            if expected != got:
                raise BundleError(f"unknown runtime {name}", where=where, expected=expected, got=got, remedy=REMEDY)
        for name, known, given in (
            ("setting", self.settings, {**runtime.settings, **runtime.settings_if_int8_saturates}),
            ("device option", self.device_options, runtime.device_options),
            ("environment variable", self.environment, runtime.environment),
        ):
            if unknown := sorted(set(given) - set(known)):
                expected, got = f"some of {', '.join(known) or 'none'}", ", ".join(unknown)
                raise BundleError(f"unknown runtime {name}", where=where, expected=expected, got=got, remedy=REMEDY)


def require_version(runtime: Runtime, installed: str, where: object) -> None:
    """Refuse a library that is older than the bundle needs.

    Raises:
        MissingError: it is older.
    """
    if release(installed) < release(runtime.minimum_version):
        raise MissingError(
            f"{runtime.library} is too old for this bundle",
            where=where,
            expected=f"{runtime.minimum_version} or later",
            got=installed,
            remedy=f"pip install '{runtime.library}>={runtime.minimum_version}'",
        )


def oldest(versions: Mapping[int, str], opset: int | None) -> str:
    """The version that first reads models of this opset; of an unknown one, the version that reads any of ours.

    `versions` maps an opset to the first version for it and all opsets before.
    """
    fitting = [version for highest, version in sorted(versions.items()) if opset is None or opset <= highest]
    return fitting[0] if fitting else versions[max(versions)]
