"""Reads an ONNX file of any origin for `inspect`."""

from __future__ import annotations

from pathlib import Path

from paraexport.errors import InputError
from paraexport.graph import untrusted
from paraexport.graph.cost import branch_costs
from paraexport.graph.summary import Contents, summary_of
from paraexport.system.memory_bound import memory_bound
from paraexport.timing.clock import Progress, silent


def read(path: Path | str, *, progress: Progress = silent) -> Contents:
    """The contents of the file at `path`. Its files of weights are checked, but not read.

    Raises:
        InputError: the file is not an ONNX model, or is damaged.
        MissingError: there is not enough memory.
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
        return Contents(summary, tuple(branch_costs(untrusted.as_ir(model, path).graph)), missing)
