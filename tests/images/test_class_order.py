"""Labels that fit the answers in another order of the classes, swapped classes, and answers that are guesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from paraexport.images.class_order import doubts

TWELVE = tuple(map(str, range(12)))
AS_TEXT = sorted(TWELVE)  # as torchvision.datasets.ImageFolder numbers its classes: sorted(names)
BY_NUMBER = {name: int(name) for name in TWELVE}
NUMBERS = np.random.default_rng(0)


def trained(order: Sequence[str], folders: Mapping[str, int], each: int = 5, wrong: int = 0) -> tuple[np.ndarray, ...]:
    """(labels by `folders`, the answers of a model whose classes are `order`), `wrong` answers of them at random."""
    names = [name for name in folders for _ in range(each)]
    labels = np.array([folders[name] for name in names])
    answered = np.array([[*order].index(name) for name in names])
    answered[NUMBERS.choice(len(names), wrong, replace=False)] = NUMBERS.integers(0, len(order), wrong)
    return labels, answered


@pytest.mark.parametrize(("each", "wrong"), [(1, 0), (5, 6), (30, 40)])
def test_folders_in_string_order_are_reported_with_both_numbers_and_the_remedy(each: int, wrong: int) -> None:
    labels, answered = trained(AS_TEXT, BY_NUMBER, each, wrong)
    right = [
        int((labels == answered).sum()),
        int((np.array([AS_TEXT.index(str(label)) for label in labels]) == answered).sum()),
    ]
    (line,) = doubts(labels, answered, TWELVE, BY_NUMBER)
    assert f"agree with the class folders for {right[0]} of {12 * each} images" in line
    assert f"and for {right[1]} with the folders in string order" in line
    assert "--spec labels=FILE, with one name on each line, in this order: 0, 1, 10, 11, 2, 3" in line


def test_folders_in_natural_order_are_reported_where_string_order_was_taken() -> None:
    names = tuple(f"class {number}" for number in range(12))
    labels, answered = trained(TWELVE, {name: place for place, name in enumerate(AS_TEXT)})
    (line,) = doubts(labels, answered, names, {name: place for place, name in enumerate(AS_TEXT)})
    assert "with the folders in natural order" in line
    assert "after their labels, or after the number of their class: 0 is class 0, 1 is class 1, 2 is" in line


def test_labels_that_are_the_folder_names_in_another_order() -> None:
    labels, answered = trained(["ant", "bee", "cat"], {"cat": 0, "ant": 1, "bee": 2}, each=10)
    (line,) = doubts(labels, answered, ("cat", "ant", "bee"), {"cat": 0, "ant": 1, "bee": 2})
    assert "for 0 of 30 images" in line
    assert "and for 30 with the folders in string order" in line
    assert "in this order: ant, bee, cat" in line


def test_some_of_the_folders_are_enough() -> None:
    folders = {name: int(name) for name in ("2", "5", "10", "11")}
    labels, answered = trained(AS_TEXT, folders, each=10)
    (line,) = doubts(labels, answered, TWELVE, folders)
    assert "for 0 of 40 images" in line
    assert "or after the number of their class: 10 is class 2, 11 is class 3, 2 is class 4" in line


def test_folders_that_count_from_one() -> None:
    folders = {name: int(name) for name in ("1", "2", "3")}
    labels, answered = trained(["1", "2", "3", "4"], folders, each=10)
    (line,) = doubts(labels, answered, ("0", "1", "2", "3"), folders)
    assert "the order of their numbers, which count from 1" in line


@pytest.mark.parametrize(("each", "wrong"), [(1, 0), (5, 0), (30, 120), (30, 300)])
def test_nothing_is_said_of_an_order_that_fits_and_of_a_model_that_errs(each: int, wrong: int) -> None:
    labels, answered = trained(TWELVE, BY_NUMBER, each, wrong)
    assert doubts(labels, answered, TWELVE, BY_NUMBER) == ()


def test_two_swapped_classes_of_many_are_named() -> None:
    order = [*TWELVE]
    order[3], order[7] = order[7], order[3]
    labels, answered = trained(order, BY_NUMBER, each=20, wrong=12)
    (line,) = doubts(labels, answered, TWELVE, None)
    assert "gives the images of some classes the labels of others: 3 → 7 → 3;" in line


def test_yes_and_no_of_one_output_swapped() -> None:
    labels = np.repeat([0, 1], 10)
    (line,) = doubts(labels, 1 - labels, ("", "cat"), {"cat": 1, "other": 0})
    assert "with the folders in" in line or "class 0 → cat → class 0" in line


def test_guesses() -> None:
    labels = np.repeat(np.arange(10), 10)
    answered = np.tile(np.arange(10), 10)
    (line,) = doubts(labels, answered, TWELVE[:10], None)
    assert "the labels for 10 of 100 images, which is no better than guessing among 10 classes" in line
    assert doubts(labels[:15], answered[:15], TWELVE[:10], None) == ()
