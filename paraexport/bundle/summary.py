"""Describes a bundle's manifest and report in sections, in reading order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType

from paraexport.bundle.records import Manifest, Report, Subject
from paraexport.checkpoint.given import FIELDS
from paraexport.findings import describe, describe_branches
from paraexport.findings.assumptions import Assumption
from paraexport.findings.document import Block, Cell, Line, Section, Table, fields, lines
from paraexport.findings.graphs import TensorInfo
from paraexport.findings.words import counted, first_words, option_text, size_text
from paraexport.model import scores
from paraexport.model.spec import Spec
from paraexport.targets.compilation import EngineInfo, EngineLayer, EngineOptions

MOST_LABELS, INTRODUCED = 8, 5
NATIVE = "paraformer"


def heading(subject: Subject) -> tuple[str, ...]:
    """Describe the bundle in a few lines."""
    return (
        f"{subject.target} {subject.precision}, layout {subject.layout}, batches up to {subject.max_batch}",
        model_line(subject.spec) if subject.spec else "a module that was not recognised as a Para-Former",
        f"scores: {scores.describe(subject.scores)}",
    )


def introduction(subject: Subject) -> tuple[str, ...]:
    """Explain the bundle to somebody who has received it, in a few sentences."""
    classes = counted(max(len(subject.labels), 2), "class")
    results = "one value" if subject.scores.kind == "values" else classes
    labels = first_words(subject.labels, INTRODUCED)
    return (
        f"This folder holds a model for images with {results} ({labels}).",
        f"It runs in {subject.target} and was built from {subject.source.name}.",
    )


def origin(convention: str) -> str:
    """Describe where the names of the weights come from."""
    if convention == "module":
        return "a module that was not recognised as a Para-Former: it is traced without changes"
    return "weights with paraexport's own names" if convention == NATIVE else f"weights with the names of {convention}"


def model_line(spec: Spec) -> str:
    """Describe a Para-Former on one line."""
    return (
        f"{counted(spec.branches, 'branch')} of {counted(spec.depth, 'layer')}: dim {spec.dim}, "
        f"{counted(spec.heads, 'head')} of {spec.head_dim}, MLP {spec.mlp_dim}, residual {spec.residual}, "
        f"{spec.activation}, pool {spec.pool}; images {spec.channels}x{option_text(spec.image_size)} in patches of "
        f"{option_text(spec.patch_size)}, {counted(spec.classes, 'class')}"
    )


def results(subject: Subject, report: Report) -> Iterator[Section]:
    """Describe the steps of the build and their results: for the end of `build` and for `inspect`."""
    yield from describe.rewrites(subject.rewrites, refusals=subject.spec is None)
    yield from describe.precision(subject.lowering)
    yield from describe.candidates(subject.candidates)
    yield from engine(report.engine)
    yield describe.checks(report.checks, report.evidence)
    yield from describe.accuracy(report.accuracy)
    yield from describe.first_look(report.first_look)
    yield from describe_branches.first_branches(report.branches, measured=True)


def branches(report: Report) -> Iterator[Section]:
    """Describe what each branch is worth, and what the first ones do alone."""
    yield from describe_branches.branches(report.branches)
    yield from describe_branches.first_branches(report.branches)


def cautions(report: Report) -> Iterator[Section]:
    """List what the user must know before using the bundle."""
    yield from describe.assumptions(report.assumptions, FIELDS)
    yield from describe.warnings(report.warnings)
    yield from describe.warnings([f"skipped {line}" for line in report.unreadable], "Files that could not be read")
    if report.made_up:
        yield from describe.warnings(
            ["the checks ran on made-up images; to check on real ones, give --data or --calib"], "Images"
        )
    if report.engine is not None and report.engine.not_inspected:
        yield from describe.warnings([f"the engine was compiled but not run: {report.engine.not_inspected}"], "Engine")


def caution_texts(report: Report) -> Iterator[str]:
    """List the lines of `cautions`, without titles and remedies."""
    for section in cautions(report):
        yield from (block.text for block in section.blocks if isinstance(block, Line) and block.tone == "note")


def details(subject: Subject, report: Report) -> Iterator[Section]:
    """Describe everything else that the page shows."""
    spec = subject.spec
    text = "a module that was not recognised as a Para-Former: it was traced without changes"
    yield Section("Model", (fields(vars(spec)) if spec else Line(text), Line(origin(subject.source.convention))))
    reason = subject.scores.reason
    yield Section("Scores", lines([scores.describe(subject.scores), *([reason] if reason else [])]))
    yield Section("Preprocessing", (fields(vars(subject.preprocessing)),))
    yield Section("Inputs and outputs", (tensors_table(subject.inputs, subject.outputs),))
    if report.engine is not None:
        yield from compiler_details(report.engine)
    note = f", {report.export_s:.1f} s of it in torch's own export, on {report.machine}"
    yield describe.seconds(report.stages_s, report.total_s, note)
    yield Section("Versions", (fields({"paraexport": subject.paraexport, **subject.versions}),))
    source = subject.source
    yield Section("Checkpoint", (fields({"name": source.name, "sha256": source.sha256}),))


def engine(info: EngineInfo | None) -> Iterator[Section]:
    """Describe the compiled engine: its size, GPUs, batch sizes, types and layers."""
    if info is None:
        return
    gpus = f"compute capability {', '.join(info.built_for)}" if info.built_for else "any GPU that it supports"
    blocks: list[Block] = [
        Line(f"{size_text(info.size_bytes)} by {info.runtime} {info.version}, for {gpus}"),
        Line(f"profiles (batches min:opt:max): {', '.join(map(str, info.profiles))}"),
    ]
    if info.products:
        counts = Counter(" · ".join(types) for types in info.products.values())
        types = ", ".join(f"{number} read {kinds}" for kinds, number in counts.most_common())
        fused = "with" if info.fused_attention else "without"
        blocks.append(
            Line(f"the plan lists {counted(len(info.products), 'product')}: {types}; {fused} fused attention")
        )
    if (inspection := info.inspection) is None:
        blocks.append(Line(f"layers unknown: {info.not_inspected}", "note"))
    else:
        most = info.options.aux_streams
        streams = counted(inspection.aux_streams, "auxiliary stream") + ("" if most is None else f" of at most {most}")
        memory = size_text(inspection.memory_bytes)
        text = f"{counted(len(inspection.layers), 'layer')} from {info.network_layers} of the network, {streams}"
        blocks.append(Line(f"{text}, {memory} of GPU memory for each context"))
    yield Section("Engine", tuple(blocks))


def compiler_details(info: EngineInfo) -> Iterator[Section]:
    """List the options that differ from their defaults, every layer, and the compiler's warnings."""
    defaults = EngineOptions()
    options = {name: value for name, value in vars(info.options).items() if value != getattr(defaults, name)}
    if options:
        yield Section("Engine options", (fields({name: str(value) for name, value in options.items()}),))
    if info.inspection is not None:
        head = ("layer", "kind", "reads", "writes", "nodes")
        yield Section("Engine layers", (Table(head, tuple(map(layer_row, info.inspection.layers))),))
    yield from describe.warnings(info.warnings, "Warnings of the compiler")


def layer_row(layer: EngineLayer) -> tuple[Cell, ...]:
    columns = (layer.inputs, layer.outputs, layer.nodes)
    return (Cell(layer.name), Cell(layer.kind), *(Cell(", ".join(dict.fromkeys(names))) for names in columns))


def spec_table(
    values: Mapping[str, object],
    labels: tuple[str, ...],
    assumed: tuple[Assumption, ...],
    given: Mapping[str, str],
    unknown: Mapping[str, str] = MappingProxyType({}),
) -> Table:
    """List every field with its value, and mark those that were assumed or given, or are unknown.

    Args:
        unknown: the text to show instead of the value of each field that is not known.
    """
    marks = {item.field: Cell("assumed", "note") for item in assumed} | dict.fromkeys(given, Cell("given by --spec"))
    marks |= dict.fromkeys(unknown, Cell("open", "note"))
    shown = ", ".join(labels[:MOST_LABELS]) + (
        f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    )
    texts = {**{name: option_text(value) for name, value in values.items()}, "labels": shown, **unknown}
    rows = tuple((Cell(name), Cell(text), marks.get(name, Cell(""))) for name, text in texts.items())
    return Table(("field", "value", ""), rows)


def files_table(manifest: Manifest) -> Table:
    rows = tuple(
        (Cell(name), Cell(size_text(file.size_bytes), is_number=True), Cell(file.sha256))
        for name, file in manifest.files.items()
    )
    return Table(("file", "size", "sha256"), rows)


def tensors_table(inputs: Iterable[TensorInfo], outputs: Iterable[TensorInfo]) -> Table:
    sides = [("input", tensor) for tensor in inputs] + [("output", tensor) for tensor in outputs]
    rows = tuple(
        (Cell(side), Cell(tensor.name), Cell(tensor.dtype), Cell(f"[{', '.join(map(str, tensor.shape))}]"))
        for side, tensor in sides
    )
    return Table(("", "name", "dtype", "shape"), rows)
