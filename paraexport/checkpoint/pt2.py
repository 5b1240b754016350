"""Reads programs of `torch.export`, after `pt2_screen` has checked that they contain no code."""

from __future__ import annotations

import io
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.pt2_archive._package import load_pt2

from paraexport.checkpoint.pt2_memory import check_values
from paraexport.checkpoint.pt2_screen import screen
from paraexport.checkpoint.torch_file import reading_file
from paraexport.errors import CheckpointError

EXPORT_AGAIN = "export it again"


@dataclass(frozen=True)
class Program:
    """An exported program, as tensors and as a module that runs it."""

    tensors: dict[str, Tensor]
    module: nn.Module
    image_shape: tuple[int, int, int] | None
    """(channels, height, width) of its only input, if they are fixed."""
    batch: int | None
    """The batch size of its only input, if it is fixed."""


def read_program(path: Path) -> Program:
    """Load a `.pt2` file.

    Raises:
        CheckpointError: it contains code, or is broken.
    """
    data = path.read_bytes()
    with reading_file("the program is damaged", EXPORT_AGAIN):
        problems = list(screen(data))
    if problems:
        raise CheckpointError(
            f"loading this program would run code or libraries that it contains: {'; '.join(problems[:5])}",
            expected="tensors and standard operators",
            remedy="export it again without custom objects, or save model.state_dict()",
        )
    with reading_file("the program cannot be loaded", EXPORT_AGAIN):
        program = load_quietly(data)
        module = program.module(check_guards=False)  # guards are Python source, so they are not compiled
        shape = input_shape(program)
        tensors = {name: tensor for name, tensor in program.state_dict.items() if isinstance(tensor, Tensor)}
    # torch.export replaces both by functions that raise, because the mode of a program is fixed
    for name in ("train", "eval"):
        vars(module).pop(name, None)
    image_shape = (shape[1], shape[2], shape[3]) if all(isinstance(size, int) for size in shape[1:]) else None
    batch = shape[0] if isinstance(shape[0], int) else None
    module = module.eval()
    check_values(module, image_shape, batch)
    return Program(tensors, module, image_shape, batch)


def load_quietly(data: bytes) -> torch.export.ExportedProgram:
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # not torch.export.load: if it fails, it tries an older format, which was not screened
            return load_pt2(io.BytesIO(data)).exported_programs["model"]
    finally:
        logger.setLevel(level)


def input_shape(program: torch.export.ExportedProgram) -> list[Any]:
    """The shape [N, C, H, W] of the only input. A size that is not fixed is not an int."""
    names = program.graph_signature.user_inputs
    values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    shapes = [list(value.shape) for value in values if isinstance(value, Tensor)]
    if len(values) != 1 or len(shapes) != 1 or len(shapes[0]) != 4:
        inputs = ", ".join(str(shape) for shape in shapes)
        raise CheckpointError("the program is no image classifier", expected="one input [N, C, H, W]", got=inputs)
    return shapes[0]
