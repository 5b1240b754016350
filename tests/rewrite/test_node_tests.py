"""ONNX's own test models for each operator: every pass keeps their outputs or refuses, and none fails."""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
import pytest
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.reference import ReferenceEvaluator

from tests.rewrite.passes import Feeds, Trial, on_runtime

EVERY = 100
"""A short run tries one in this many models, and all in `NOTED`."""
NOTED = re.compile(
    r"rotary_embedding_expanded|linear_attention_gated_expanded|dropout_default_mask|attention_bidirectional_window$"
    r"|split_to_sequence_1|scan_sum|label_encoder_string_int$|maxpool_2d_ceil_output|affine_grid_2d_expanded$"
)
"""Models on which passes failed once."""
RANDOM = re.compile(r"bernoulli|training_dropout")
CLOSE, CLOSE_IN_HALF = 1e-4, 1e-2
HALVES = {onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}


@functools.lru_cache(maxsize=1)
def cases() -> Sequence[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the models' own infinities
        return [case for case in load_model_tests(kind="node") if not RANDOM.search(case.name)]


def on_reference(model: onnx.ModelProto, feeds: Feeds) -> Sequence[Any]:
    evaluator = ReferenceEvaluator(model)
    answers = evaluator.run(None, {str(name): feeds[str(name)] for name in evaluator.input_names})
    assert isinstance(answers, list)
    return answers


def unknown(_model: onnx.ModelProto, _feeds: Feeds) -> Sequence[Any]:
    """The outputs of a model that no runtime here can run."""
    return []


def trial(model: onnx.ModelProto, feeds: Feeds) -> Trial:
    """The model in ONNX Runtime, or in ONNX's reference if ONNX Runtime cannot run it."""
    types = {value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)}
    close = CLOSE_IN_HALF if types & HALVES else CLOSE
    for run in (on_runtime, on_reference) if feeds else ():
        try:
            return Trial(model, feeds, run, close)
        except Exception:
            continue
    return Trial(model, feeds, unknown, close)


def with_constants(model: onnx.ModelProto, feeds: Feeds) -> onnx.ModelProto:
    """The model with every input but the first as an initializer, if possible."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.ir_version = max(fixed.ir_version, 4)  # before, an initializer had to be an input
    del fixed.graph.input[1:]
    for value in model.graph.input[1:]:
        tensor = as_tensor(feeds[value.name], value)
        if tensor is None:
            fixed.graph.input.append(value)
        else:
            fixed.graph.initializer.append(tensor)
    return fixed


def as_tensor(array: object, value: onnx.ValueInfoProto) -> onnx.TensorProto | None:
    try:
        tensor = numpy_helper.from_array(array, value.name)  # type: ignore[arg-type]
    except Exception:  # a sequence, or nothing
        return None
    return tensor if tensor.data_type == value.type.tensor_type.elem_type else None


def check(case: Any) -> None:
    inputs: Sequence[Any] = case.data_sets[0][0] if case.data_sets else ()
    feeds: Mapping[str, Any] = {value.name: array for value, array in zip(case.model.graph.input, inputs, strict=False)}
    models = [case.model, *([with_constants(case.model, feeds)] if len(feeds) > 1 else [])]
    for model in filter(is_valid, models):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's, in the reference
            one = trial(model, feeds)
            one.check_layouts()
            one.check_passes()


def is_valid(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:
        return False
    return True


def test_no_pass_stumbles_over_a_node_test() -> None:
    chosen = [case for index, case in enumerate(cases()) if index % EVERY == 0 or NOTED.search(case.name)]
    assert len(chosen) > len(cases()) // EVERY
    for case in chosen:
        check(case)


@pytest.mark.sweep
@pytest.mark.parametrize("part", range(40))
def test_no_pass_stumbles_over_any_node_test(part: int) -> None:
    for case in cases()[part::40]:
        check(case)
