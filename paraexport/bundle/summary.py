"""A bundle's manifest and report as sections for people, in the order in which they are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from paraexport.bundle.records import Manifest, Report
from paraexport.checkpoint.given import FIELDS
from paraexport.findings import describe
from paraexport.findings.assumptions import Assumption
from paraexport.findings.document import Block, Cell, Line, Section, Table, fields, lines
from paraexport.findings.graphs import TensorInfo
from paraexport.findings.words import counted, option_text, size_text
from paraexport.model import scores
from paraexport.model.spec import Spec
from paraexport.targets.compilation import EngineInfo, EngineLayer, EngineOptions

MOST_LABELS = 8


def heading(manifest: Manifest) -> tuple[str, ...]:
    """What the bundle is, in a few lines."""
    return (
        f"{manifest.target} {manifest.precision}, layout {manifest.layout}, batches up to {manifest.max_batch}",
        model_line(manifest.spec) if manifest.spec else "a module that is not recognised as a Para-Former",
        f"scores: {scores.describe(manifest.scores)}",
    )


def model_line(spec: Spec) -> str:
    """A Para-Former on one line."""
    return (
        f"{counted(spec.branches, 'branch')} of {counted(spec.depth, 'layer')}: dim {spec.dim}, "
        f"{counted(spec.heads, 'head')} of {spec.head_dim}, MLP {spec.mlp_dim}, residual {spec.residual}, "
        f"{spec.activation}, pool {spec.pool}; images {spec.channels}x{option_text(spec.image_size)} in patches of "
        f"{option_text(spec.patch_size)}, {counted(spec.classes, 'class')}"
    )


def results(manifest: Manifest, report: Report | None) -> Iterator[Section]:
    """What was done and what came out of it: for the end of a build, for `inspect`, and for the page."""
    yield from describe.rewrites(manifest.rewrites, refusals=manifest.spec is None)
    yield from describe.precision(manifest.lowering)
    yield from describe.candidates(manifest.candidates)
    yield from engine(report.engine if report else None)
    yield describe.checks(manifest.checks, manifest.evidence)
    yield from describe.accuracy(report.accuracy if report else None)


def cautions(manifest: Manifest, report: Report) -> Iterator[Section]:
    """What the user has to know before the bundle is used."""
    yield from describe.assumptions(manifest.assumptions, FIELDS)
    yield from describe.warnings(report.warnings)
    yield from describe.warnings([f"skipped {line}" for line in report.unreadable], "Files that could not be read")
    if report.made_up:
        yield from describe.warnings(
            ["the checks ran on made-up images, which no model was trained for; give --data or --calib"], "Images"
        )
    if report.engine is not None and report.engine.not_inspected:
        yield from describe.warnings(
            [f"the engine was compiled and has not run: {report.engine.not_inspected}"], "Engine"
        )


def details(manifest: Manifest, report: Report) -> Iterator[Section]:
    """Everything else that the page shows."""
    spec = manifest.spec
    yield Section("Model", (fields(vars(spec)) if spec else Line("a module of its own, traced as it is"),))
    reason = manifest.scores.reason
    yield Section("Scores", lines([scores.describe(manifest.scores), *([reason] if reason else [])]))
    yield Section("Preprocessing", (fields(vars(manifest.preprocessing)),))
    if report.engine is not None:
        yield from compiler_details(report.engine)
    note = f", of which {report.export_s:.1f} s in torch's own export, on {report.machine}"
    yield describe.seconds(report.stages_s, report.total_s, note)
    yield Section("Versions", (fields(manifest.versions),))


def engine(info: EngineInfo | None) -> Iterator[Section]:
    """What was compiled, for what, and what it became."""
    if info is None:
        return
    gpus = f"compute capability {', '.join(info.built_for)}" if info.built_for else "any GPU that it knows"
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
    if (became := info.inspection) is None:
        blocks.append(Line(f"not read back: {info.not_inspected}", "note"))
    else:
        asked = info.options.aux_streams
        streams = counted(became.aux_streams, "auxiliary stream") + ("" if asked is None else f" of {asked} asked for")
        memory = size_text(became.memory_bytes)
        text = f"{counted(len(became.layers), 'layer')} from {info.network_layers} of the network, {streams}"
        blocks.append(Line(f"{text}, {memory} of GPU memory a context"))
    yield Section("Engine", tuple(blocks))


def compiler_details(info: EngineInfo) -> Iterator[Section]:
    """The options that were not the usual ones, every layer, and what the compiler printed."""
    usual = EngineOptions()
    asked = {name: value for name, value in vars(info.options).items() if value != getattr(usual, name)}
    if asked:
        yield Section("Engine options", (fields({name: str(value) for name, value in asked.items()}),))
    if info.inspection is not None:
        head = ("layer", "kind", "reads", "writes", "nodes")
        yield Section("Engine layers", (Table(head, tuple(map(layer_row, info.inspection.layers))),))
    yield from describe.warnings(info.warnings, "Warnings of the compiler")


def layer_row(layer: EngineLayer) -> tuple[Cell, ...]:
    columns = (layer.inputs, layer.outputs, layer.nodes)
    return (Cell(layer.name), Cell(layer.kind), *(Cell(", ".join(dict.fromkeys(names))) for names in columns))


def spec_table(
    values: Mapping[str, object], labels: tuple[str, ...], assumed: tuple[Assumption, ...], given: Mapping[str, str]
) -> Table:
    """Every field with its value; those that the checkpoint did not settle are marked."""
    marks = {item.field: Cell("assumed", "note") for item in assumed} | dict.fromkeys(given, Cell("given by --spec"))
    shown = ", ".join(labels[:MOST_LABELS]) + (
        f" and {len(labels) - MOST_LABELS} more" if len(labels) > MOST_LABELS else ""
    )
    texts = {**{name: option_text(value) for name, value in values.items()}, "labels": shown}
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
