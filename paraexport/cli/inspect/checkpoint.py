"""Shows the contents of a checkpoint."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraexport.bundle import summary
from paraexport.checkpoint.given import FIELDS, possible
from paraexport.checkpoint.shards import weights_bytes
from paraexport.cli.output import emit_json, escaped, warn, warn_of
from paraexport.cli.render import print_table
from paraexport.cli.stages import Stages
from paraexport.errors import OpenField
from paraexport.findings import describe
from paraexport.findings.words import size_text
from paraexport.pipeline.cache import require_file
from paraexport.pipeline.options import Reading
from paraexport.pipeline.partial import load_partly

if TYPE_CHECKING:
    from paraexport.checkpoint.load import Checkpoint


def words(given: Reading, open_fields: Sequence[OpenField]) -> list[str]:
    """The same options for the next command, and one for each open field."""
    pairs = [("--spec", f"{name}={value}") for name, value in given.spec.items()]
    pairs += [("--spec", f"{field.name}={'N' if field.values else 'HEIGHTxWIDTH'}") for field in open_fields]
    pairs += [("--module", given.module)] if given.module else []
    pairs += [("--weights", given.weights)] if given.weights else []
    pairs += [("--rename", f"{old}={new}") for old, new in given.rename.items()]
    return [word for flag, value in pairs for word in (flag, shlex.quote(value))]


def show(path: Path, given: Reading, *, as_json: bool, quiet: bool) -> None:
    file = require_file(path)
    with Stages(quiet=quiet) as stages:
        stages("reading")
        loaded, open_fields = load_partly(file, given)
    size_bytes, parameters = weights_bytes(file), parameter_count(loaded)
    following = " ".join(["paraexport build", shlex.quote(str(path)), *words(given, open_fields)])
    unknown = dict(values_of(open_fields))
    assumed = tuple(item for item in loaded.assumptions if item.field not in unknown)
    warn_of(describe.assumptions(assumed, FIELDS))
    for field in open_fields:
        warn(f"{field.name} must be given: {field.reason}")
    if as_json:
        emit_json(
            {
                "kind": "checkpoint",
                "path": str(path),
                "size_bytes": size_bytes,
                "convention": loaded.convention,
                "parameters": parameters,
                "spec": without(unknown, loaded.spec),
                "classifier": without(unknown, loaded.classifier),
                "preprocessing": without(unknown, loaded.preprocessing),
                "labels": loaded.labels,
                "scores": loaded.scores,
                "negative": loaded.negative,
                "assumptions": assumed,
                "open": [{"field": item.name, "reason": item.reason, "values": item.values} for item in open_fields],
                "next": following,
            }
        )
        return
    print(f"{escaped(path)}: a checkpoint, {size_text(size_bytes)}, {parameters:,} parameters")
    print(f"{summary.origin(loaded.convention)}\n")
    values = {**vars(loaded.classifier), **vars(loaded.preprocessing)}
    print_table(summary.spec_table(values, loaded.labels, assumed, given.spec, unknown))
    if loaded.scores:
        print(f"\nscores: {loaded.scores}, {'given by --spec' if 'scores' in given.spec else 'from its config'}")
    print(f"\nnext: {escaped(following)}")
    if any(field.values for field in open_fields):
        print("With labelled images as --data, build prints the accuracy of each value.")


def values_of(open_fields: Sequence[OpenField]) -> Iterator[tuple[str, str]]:
    """Yield each open field with its possible values, and each field that follows from it."""
    for field in open_fields:
        yield field.name, possible(field) if field.values else ""
        for dependent in field.dependents:
            yield dependent, f"follows from {field.name}"


def without(unknown: Mapping[str, str], fields: object) -> dict[str, Any] | None:
    """The fields of a dataclass, with None for those that are not known."""
    if fields is None:
        return None
    return {name: None if name in unknown else value for name, value in vars(fields).items()}


def parameter_count(loaded: Checkpoint) -> int:
    """Count the trained numbers. A tensor with two names counts once."""
    return sum(parameter.numel() for parameter in loaded.module.parameters())
