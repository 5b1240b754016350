"""Checks the size of all values of a program before it first runs, on tensors without data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from paraexport.errors import CheckpointError

IMAGES = 4
USUAL_SHAPE = (3, 224, 224)
MOST_BYTES = 4 * 2**30
"""The largest value for `IMAGES` images. A ViT-H on images of 518 x 518 pixels needs a quarter of it."""


class SizeGuard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Raises an error at the first operator whose result is too large."""

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and (size := value.numel() * value.element_size()) > MOST_BYTES:
                raise CheckpointError(
                    f"the program makes a tensor of shape {list(value.shape)} in {func}",
                    expected=f"at most {MOST_BYTES} bytes for {IMAGES} images",
                    got=int(size),
                    remedy="export a smaller model, or save model.state_dict()",
                )
        return result


def check_values(module: nn.Module, image_shape: Sequence[int] | None, batch: int | None) -> None:
    """Refuse a program with a value of more than `MOST_BYTES`. Nothing is computed, and no memory is allocated.

    Args:
        image_shape: (channels, height, width), if they are fixed.
        batch: the batch size, if it is fixed.

    Raises:
        CheckpointError: a value is too large, or its size depends on the values of the images.
    """
    shape = (batch or IMAGES, *(image_shape or USUAL_SHAPE))
    try:
        guard = SizeGuard()  # type: ignore[no-untyped-call]
        with FakeTensorMode(allow_non_fake_inputs=True), guard, torch.no_grad():
            module(torch.empty(shape))
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise CheckpointError(
            "the sizes in this program depend on the values of the images", expected="a graph without such operators"
        ) from error
    except CheckpointError:
        raise
    except Exception:  # the program does not take such images; the code that runs it reports that
        return
