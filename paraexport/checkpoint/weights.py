"""Converts stored tensors to finite float32 tensors on the CPU. Tied tensors stay tied."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from paraexport.checkpoint.build import identity
from paraexport.checkpoint.given import Guesses
from paraexport.errors import CheckpointError, shortlist

CONVERTED = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def as_float32(tensors: Mapping[str, Tensor], guesses: Guesses) -> dict[str, Tensor]:
    """Convert float16, bfloat16 and, with a warning, float64.

    Raises:
        CheckpointError: there are integer, quantised, complex or sparse tensors, or values that are not finite. The
            message lists all of them.
    """
    foreign = [
        f"{key} {kind(tensor)}"
        for key, tensor in tensors.items()
        if tensor.dtype not in CONVERTED or tensor.layout != torch.strided or tensor.is_meta or tensor.is_nested
    ]
    if foreign:
        raise CheckpointError(
            f"some tensors are not plain floating-point numbers: {shortlist(foreign)}",
            expected="dense float32, float16, bfloat16 or float64",
            remedy="save only the model, before quantisation or packing",
        )
    if doubles := [key for key, tensor in tensors.items() if tensor.dtype == torch.float64]:
        guesses.assume("dtype", "float32", f"{len(doubles)} float64 tensors are rounded, {doubles[0]} first")
    converted: dict[object, Tensor] = {}
    plain = {
        key: converted.setdefault(identity(tensor), tensor.detach().to("cpu", torch.float32))
        for key, tensor in tensors.items()
    }
    too_large = [key for key in doubles if not plain[key].isfinite().all() and tensors[key].isfinite().all()]
    if too_large:
        raise CheckpointError(
            f"some weights are too large for float32: {shortlist(too_large)}",
            expected=f"at most {torch.finfo(torch.float32).max:.3g}",
            got=f"{max(float(tensors[key].abs().max()) for key in too_large):.3g}",
            remedy="use an earlier checkpoint: such weights are a sign of failed training",
        )
    infinite = {key: int((~tensor.isfinite()).sum()) for key, tensor in plain.items()}
    if bad := [f"{count} of {plain[key].numel()} in {key}" for key, count in infinite.items() if count]:
        raise CheckpointError(f"some weights are NaN or infinite: {shortlist(bad)}", remedy="use an earlier checkpoint")
    return plain


def kind(tensor: Tensor) -> str:
    """The type of a tensor for messages: `float32`, `sparse_coo float32`, `meta float32`."""
    words = [] if tensor.layout == torch.strided else [str(tensor.layout)]
    words += ["meta"] if tensor.is_meta else []
    words += ["nested"] if tensor.is_nested else []
    return " ".join([*words, str(tensor.dtype)]).replace("torch.", "")
