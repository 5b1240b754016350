"""What `inspect` shows of an ONNX file of any origin."""

from __future__ import annotations

from pathlib import Path

from paraexport.errors import InputError
from paraexport.graph import untrusted
from paraexport.graph.cost import parts
from paraexport.graph.summary import Contents, summary_of
from paraexport.system.memory_bound import memory_bound
from paraexport.timing.clock import Progress, silent


def read(path: Path | str, *, progress: Progress = silent) -> Contents:
    """The contents of the file at `path`; its files of weights are looked for, and not read.

    Raises:
        InputError: it is no ONNX model, or a damaged one.
        MissingError: memory is too little.
    """
    path = Path(path)
    progress("reading")
    untrusted.require_file(path)
    with memory_bound(untrusted.most_memory(path), path):
        model = untrusted.read(path)
        summary = summary_of(model, path.stat().st_size)
        try:
            untrusted.external_files(model, path)
            missing = ""
        except InputError as error:
            missing = str(error)
        untrusted.free_negative_sizes(model)
        return Contents(summary, tuple(parts(untrusted.as_ir(model, path).graph)), missing)
