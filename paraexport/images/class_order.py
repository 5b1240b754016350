"""Checks whether labels fit PyTorch's answers, and finds an order of the classes that fits far better."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from paraexport.images.wording import shortened
from paraexport.system.files import natural

Numbers = NDArray[np.int64]
GAIN, FEWEST_GAINED = 0.1, 3
"""Another order is reported if it makes at least this share of all images, and this many, right in addition."""
FEWEST_IMAGES, CONFIDENT = 5, 0.7
"""A class is taken for another one if it has this many images, and at least this share of them gets that answer."""
SHOWN = 12
"""Names in a message; it counts the rest."""
CHANCE_IMAGES = 20
"""With fewer images, guessing is not reported."""
FAR_BELOW = 5.0
"""Percentage points below the accuracy in the checkpoint that are reported, if chance does not explain them."""


def doubts(
    labels: Numbers, answered: Numbers, names: Sequence[str], folders: Mapping[str, int] | None
) -> tuple[str, ...]:
    """Sentences on labels [N] and answers [N] that do not fit together; empty if they do.

    Args:
        names: the names of all classes, in the order of the outputs.
        folders: class folder -> class, if the images come from folders.
    """
    if folders is not None and (better := other_order(labels, answered, names, folders)):
        return (better,)
    if swapped := tuple(swaps(labels, answered, names)):
        return swapped
    return tuple(guessing(labels, answered, len(names)))


def other_order(labels: Numbers, answered: Numbers, names: Sequence[str], folders: Mapping[str, int]) -> str | None:
    """A sentence on the order of the classes that makes far more answers right; None if there is no such order."""
    if len({*folders.values()}) < len(folders):
        return None
    right_now = int((labels == answered).sum())
    most_right, best = right_now, None
    for order, classes in orders(folders, len(names)).items():
        new_number = np.full(len(names), -1, np.int64)
        for folder, number in folders.items():
            new_number[number] = classes[folder]
        right = int((new_number[labels] == answered).sum())
        if right > most_right:
            most_right, best = right, (order, classes)
    count, gained = len(labels), most_right - right_now
    # The other order must also halve the errors.
    if best is None or gained < max(FEWEST_GAINED, GAIN * count) or 2 * (count - most_right) > count - right_now:
        return None
    order, classes = best
    by_class = sorted(classes, key=lambda folder: classes[folder])
    if {*by_class} == {*names}:
        remedy = f"give --spec labels=FILE, with one name on each line, in this order: {shortened(by_class, SHOWN)}"
    else:
        places = [f"{folder} is class {classes[folder]}" for folder in by_class]
        numbers = shortened(places, SHOWN)
        remedy = f"name the folders after their labels, or after the number of their class: {numbers}"
    return (
        f"PyTorch's answers agree with the class folders for {right_now} of {count} images, and for {most_right} with "
        f"the folders in {order}; if the model was trained with that order, {remedy}"
    )


def orders(folders: Mapping[str, int], classes: int) -> dict[str, dict[str, int]]:
    """Other ways than `folders` to number the class folders, as training programs do: way -> {folder: class}."""
    names = [*folders]
    ways: dict[str, dict[str, int]] = {}
    if len(names) == classes:
        ways["string order (as ImageFolder of torchvision sorts: 10 before 2)"] = places(sorted(names))
        ways["natural order (2 before 10)"] = places(sorted(names, key=natural))
        ways["alphabetical order that ignores case"] = places(sorted(names, key=str.casefold))
    elif {*names} <= {str(number) for number in range(classes)}:
        all_places = places(sorted(map(str, range(classes))))
        ways["string order (as ImageFolder of torchvision sorts: 10 before 2)"] = {
            name: all_places[name] for name in names
        }
    if {*names} <= {str(number) for number in range(1, classes + 1)}:
        ways["the order of their numbers, which count from 1"] = {name: int(name) - 1 for name in names}
    return {order: numbers for order, numbers in ways.items() if numbers != {**folders}}


def places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def swaps(labels: Numbers, answered: Numbers, names: Sequence[str]) -> Iterator[str]:
    """Sentences on classes whose images get the answers of other classes."""
    taken_for = confident(labels, answered)
    moved = {label: answer for label, answer in taken_for.items() if label != answer}
    # Each circle is found once for each of its classes; keep the one that starts with the lowest.
    circles = [circle for circle in circles_of(moved) if min(circle) == circle[0]]
    if circles:
        lines = [" → ".join(name(names, number) for number in (*circle, circle[0])) for circle in circles]
        yield (
            f"PyTorch gives the images of some classes the labels of others: {shortened(lines, SHOWN, '; ')}; if these "
            "labels are swapped, correct the folders, or the order of the names in --spec labels=FILE"
        )
    elif 2 * len(moved) >= len(np.unique(labels)) and len(moved) > 1 and len({*moved.values()}) == len(moved):
        lines = [f"{name(names, label)} → {name(names, answer)}" for label, answer in moved.items()]
        yield (
            f"PyTorch gives most classes the label of another class: {shortened(lines, SHOWN)}; check the order of the "
            "labels, or give it with --spec labels=FILE"
        )


def confident(labels: Numbers, answered: Numbers) -> dict[int, int]:
    """Class -> the answer that most of its images get, if that is clear."""
    taken_for = {}
    for number in np.unique(labels):
        answers, counts = np.unique(answered[labels == number], return_counts=True)
        if counts.sum() >= FEWEST_IMAGES and counts.max() >= CONFIDENT * counts.sum():
            taken_for[int(number)] = int(answers[counts.argmax()])
    return taken_for


def circles_of(moved: Mapping[int, int]) -> Iterator[tuple[int, ...]]:
    """Each path from a class along `moved` back to itself, once for each start on it."""
    for start in moved:
        path = [start]
        while (following := moved.get(path[-1])) is not None and following not in path:
            path.append(following)
        if following == start:
            yield tuple(path)


def guessing(labels: Numbers, answered: Numbers, classes: int) -> Iterator[str]:
    """A sentence if the answers are no better than guesses, within two standard deviations."""
    count, right = len(labels), int((labels == answered).sum())
    if count < CHANCE_IMAGES or classes < 2:
        return
    chance = 1 / classes
    if right <= count * chance + 2 * (count * chance * (1 - chance)) ** 0.5:
        yield (
            f"PyTorch's answers agree with the labels for {right} of {count} images, which is no better than guessing "
            f"among {classes} classes; check the labels, and the preprocessing (mean, std, resize)"
        )


def below_record(right: int, images: int, percent: float, source: str) -> Iterator[str]:
    """A sentence if PyTorch's accuracy is far below the one in the checkpoint, `percent`, which is called `source`."""
    share = percent / 100
    deviation = 100 * (share * (1 - share) / images) ** 0.5
    now = 100 * right / images
    if percent - now > max(FAR_BELOW, 3 * deviation):
        yield (
            f"PyTorch's answers agree with the labels for {right} of {images} images, {now:.1f} %, but the checkpoint "
            f"records {source} = {percent:.4g} %; check the fields that were assumed or given, and the images"
        )


def name(names: Sequence[str], number: int) -> str:
    return names[number] or f"class {number}"
