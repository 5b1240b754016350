"""Do the classes of labelled images fit PyTorch's answers, or would another order of the classes fit far better?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paraexport.system.files import natural

Numbers = NDArray[np.int64]
GAIN, FEWEST_GAINED = 0.1, 3
"""Another order counts when so large a share of all images, and so many of them, would then be right as well."""
FEWEST_IMAGES, CONFIDENT = 5, 0.7
"""A class is taken for another one when so many images of it, and so large a share of them, get that answer."""
SHOWN = 12
CHANCE_IMAGES = 20
"""With fewer images, nothing is said about guessing."""


def doubts(
    labels: Numbers, answered: Numbers, names: Sequence[str], folders: Mapping[str, int] | None
) -> tuple[str, ...]:
    """What does not fit between labels [N] and answers [N], as sentences; empty where nothing stands out.

    Args:
        names: of all classes, in the order of the outputs.
        folders: the class of each class folder, where the images come from folders.
    """
    if folders is not None and (better := other_order(labels, answered, names, folders)):
        return (better,)
    if swapped := tuple(swaps(labels, answered, names)):
        return swapped
    return tuple(guessing(labels, answered, len(names)))


def other_order(labels: Numbers, answered: Numbers, names: Sequence[str], folders: Mapping[str, int]) -> str | None:
    """The order of the classes with which far more answers are right, with the numbers and the remedy."""
    if len({*folders.values()}) < len(folders):
        return None
    here = int((labels == answered).sum())
    best, found = here, None
    for order, classes in orders(folders, len(names)).items():
        moved = np.full(len(names), -1, np.int64)
        for folder, number in folders.items():
            moved[number] = classes[folder]
        right = int((moved[labels] == answered).sum())
        if right > best:
            best, found = right, (order, classes)
    count = len(labels)
    if found is None or best - here < max(FEWEST_GAINED, GAIN * count) or 2 * (count - best) > count - here:
        return None
    order, classes = found
    by_class = sorted(classes, key=lambda folder: classes[folder])
    if {*by_class} == {*names}:
        remedy = f"give --spec labels=FILE, with one name a line in this order: {some(by_class)}"
    else:
        places = [f"{folder} is class {classes[folder]}" for folder in by_class]
        remedy = f"name the folders by their labels, or by the number of their class: {some(places)}"
    return (
        f"PyTorch answers {here} of {count} images as their class folders say, and {best} with the folders in "
        f"{order}; if the model was trained so, {remedy}"
    )


def orders(folders: Mapping[str, int], classes: int) -> dict[str, dict[str, int]]:
    """Ways to number class folders that programs use, by what they are called, but the way of `folders`."""
    names = [*folders]
    ways: dict[str, dict[str, int]] = {}
    if len(names) == classes:
        ways["string order (as ImageFolder of torchvision sorts: 10 before 2)"] = places(sorted(names))
        ways["natural order (2 before 10)"] = places(sorted(names, key=natural))
        ways["the order of their names in small letters"] = places(sorted(names, key=str.casefold))
    elif {*names} <= {str(number) for number in range(classes)}:
        every = places(sorted(map(str, range(classes))))
        ways["string order (as ImageFolder of torchvision sorts: 10 before 2)"] = {name: every[name] for name in names}
    if {*names} <= {str(number) for number in range(1, classes + 1)}:
        ways["numbers that count from 1"] = {name: int(name) - 1 for name in names}
    return {order: numbers for order, numbers in ways.items() if numbers != {**folders}}


def places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def swaps(labels: Numbers, answered: Numbers, names: Sequence[str]) -> Iterator[str]:
    """Classes whose images get each other's answers."""
    taken_for = confident(labels, answered)
    moved = {one: other for one, other in taken_for.items() if one != other}
    circles = [circle for circle in circles_of(moved) if min(circle) == circle[0]]
    if circles:
        listed = [" → ".join(name(names, number) for number in (*circle, circle[0])) for circle in circles]
        yield (
            f"PyTorch takes the images of some classes for those of others: {some(listed, '; ')}; if their labels are "
            "swapped, correct the folders, or the order of the names in --spec labels=FILE"
        )
    elif 2 * len(moved) >= len(np.unique(labels)) and len(moved) > 1 and len({*moved.values()}) == len(moved):
        listed = [f"{name(names, one)} → {name(names, other)}" for one, other in moved.items()]
        yield (
            f"PyTorch takes most classes for another one each: {some(listed)}; check the order of the labels, or give "
            "it by --spec labels=FILE"
        )


def confident(labels: Numbers, answered: Numbers) -> dict[int, int]:
    """The class that most images of a class get as their answer, where that is clear."""
    taken_for = {}
    for number in np.unique(labels):
        answers, counts = np.unique(answered[labels == number], return_counts=True)
        if counts.sum() >= FEWEST_IMAGES and counts.max() >= CONFIDENT * counts.sum():
            taken_for[int(number)] = int(answers[counts.argmax()])
    return taken_for


def circles_of(moved: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
    """Each way from a class along `moved` back to itself, once for each start on it."""
    for start in moved:
        way = [start]
        while (following := moved.get(way[-1])) is not None and following not in way:
            way.append(following)
        if following == start:
            yield tuple(way)


def guessing(labels: Numbers, answered: Numbers, classes: int) -> Iterator[str]:
    """Answers no better than guesses, by two standard deviations of a guess."""
    count, right = len(labels), int((labels == answered).sum())
    if count < CHANCE_IMAGES or classes < 2:
        return
    chance = 1 / classes
    if right <= count * chance + 2 * (count * chance * (1 - chance)) ** 0.5:
        yield (
            f"PyTorch answers {right} of {count} images as labelled, which is no better than guessing among {classes} "
            "classes; check the labels, and the preprocessing (mean, std, resize)"
        )


def name(names: Sequence[str], number: int) -> str:
    return names[number] or f"class {number}"


def some(words: Sequence[str], between: str = ", ") -> str:
    more = f"{between}and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return between.join(words[:SHOWN]) + more
