"""Reads `torch.export` programs, once `pt2_screen` has found no code in them."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.pt2_archive._package import load_pt2

from paraexport.checkpoint.pt2_memory import check_values
from paraexport.checkpoint.pt2_screen import screen
from paraexport.errors import CheckpointError, MissingError, ParaexportError, lack_of_memory


@dataclass(frozen=True)
class Program:
    """An exported program, as tensors and as a module that runs it."""

    tensors: dict[str, Tensor]
    module: nn.Module
    image_shape: tuple[int, int, int] | None
    """(channels, height, width) of its only input, where they are fixed."""
    batch: int | None
    """Images of its only input, where their number is fixed."""


def read_program(path: Path) -> Program:
    """Load a `.pt2` file.

    Raises:
        CheckpointError: it holds anything that could run code, or is broken.
    """
    data = path.read_bytes()
    with whole("not a whole program"):
        problems = list(screen(data))
    if problems:
        raise CheckpointError(
            f"loading this program would run code or libraries from it: {'; '.join(problems[:5])}",
            expected="tensors and standard operators",
            remedy="export it again without custom objects, or save model.state_dict()",
        )
    with whole("the program cannot be loaded"):
        program = load_quietly(data)
        module = program.module(check_guards=False)  # guards are Python source
        shape = input_shape(program)
        tensors = {name: tensor for name, tensor in program.state_dict.items() if isinstance(tensor, Tensor)}
    # torch.export replaces both by functions that raise; the mode of a program is fixed by its export
    for name in ("train", "eval"):
        vars(module).pop(name, None)
    image_shape = (shape[1], shape[2], shape[3]) if all(isinstance(size, int) for size in shape[1:]) else None
    batch = shape[0] if isinstance(shape[0], int) else None
    module = module.eval()
    check_values(module, image_shape, batch)
    return Program(tensors, module, image_shape, batch)


@contextmanager
def whole(what: str) -> Iterator[None]:
    """Around the loader of torch, which raises anything at all on a damaged file."""
    try:
        yield
    except ParaexportError:
        raise
    except Exception as error:
        if lack_of_memory(error) is not None:
            raise MissingError("there is not enough memory to read the program", remedy="free memory") from error
        raise CheckpointError(f"{what}: {first_line(error)}", remedy="export it again") from error


def first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def load_quietly(data: bytes) -> torch.export.ExportedProgram:
    logger = logging.getLogger("torch.export")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # not torch.export.load: when this fails it tries an older format, which was not screened
            return load_pt2(io.BytesIO(data)).exported_programs["model"]
    finally:
        logger.setLevel(level)


def input_shape(program: torch.export.ExportedProgram) -> list[Any]:
    """[N, C, H, W] of the only input; a size that is not fixed is no int."""
    names = program.graph_signature.user_inputs
    found = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    shapes = [list(value.shape) for value in found if isinstance(value, Tensor)]
    if len(found) != 1 or len(shapes) != 1 or len(shapes[0]) != 4:
        inputs = ", ".join(str(shape) for shape in shapes)
        raise CheckpointError("the program is no image classifier", expected="one input [N, C, H, W]", got=inputs)
    return shapes[0]
