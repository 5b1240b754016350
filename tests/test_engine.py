"""Engines that are copied, pickled or opened with impossible settings."""

import copy
import pickle
from collections.abc import Callable

import numpy as np
import pytest

import paraexport
from paraexport.bundle import Bundle
from paraexport.errors import InputError


@pytest.mark.parametrize(
    "copy_of", [pickle.dumps, copy.copy, copy.deepcopy, lambda engine: pickle.dumps({"model": [engine]})]
)
def test_an_engine_that_is_pickled_says_to_load_it_in_the_worker(
    small_bundle: Bundle, copy_of: Callable[[object], object]
) -> None:
    engine = paraexport.load(small_bundle.path)
    with pytest.raises(TypeError, match=r"cannot be pickled or copied; call paraexport\.load\(.*\) in the worker$"):
        copy_of(engine)


@pytest.mark.parametrize(
    "threads",
    [0, -1, 100_000, 2**31, 2**63, 10**5000, True, 2.0, "2", float("nan"), b"2", [1]],
    ids=lambda value: type(value).__name__,
)
def test_impossible_numbers_of_threads(small_bundle: Bundle, threads: object) -> None:
    with pytest.raises(InputError, match="the number of threads is not possible") as caught:
        paraexport.load(small_bundle.path, threads=threads)  # type: ignore[arg-type]
    assert "more threads are not faster" in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_number_of_threads_of_numpy_is_one_too(small_bundle: Bundle) -> None:
    assert paraexport.load(small_bundle.path, threads=np.int64(2))  # type: ignore[arg-type]
