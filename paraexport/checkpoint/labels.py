"""Reads the names of classes from lists, `id2label`, `label2id` and files: one name for each class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from paraexport.checkpoint.config_files import parse_json, read_text
from paraexport.errors import CheckpointError, brief

LONGEST_LABEL = 10_000
LABEL_IDS = "label2id"
"""This word maps a label to its class. All others map a class to its label, or list the labels."""


def read_labels(words: Mapping[str, object]) -> tuple[str, ...]:
    """The labels in all words of a config, e.g. {"id2label": {"0": "cat"}, "label2id": {"cat": 0}}.

    Raises:
        ValueError: a word cannot be read, or two words contradict each other.
    """
    ids = label_ids(words[LABEL_IDS]) if LABEL_IDS in words else None
    known = {word: labels_of(word, value) for word, value in words.items() if word != LABEL_IDS}
    if not known:
        return from_ids(ids or {})
    names = list(known)
    for word in names[1:]:
        if known[word] != known[names[0]]:
            raise ValueError(f"{names[0]} and {word} contradict each other{first_difference(known, names[0], word)}")
    if ids is not None:
        check_ids(ids, known[names[0]], names[0])
    return known[names[0]]


def check_ids(ids: Mapping[str, int], labels: tuple[str, ...], name: str) -> None:
    """Raise a ValueError if `label2id` is not the inverse of the labels. It has only one class for equal labels."""
    problem = next((f"has {brief(k)} at {i}" for k, i in ids.items() if i >= len(labels) or labels[i] != k), None)
    if problem is None:
        problem = next((f"lacks {brief(label)}" for label in labels if label not in ids), None)
    if problem is not None:
        raise ValueError(f"{name} and {LABEL_IDS} contradict each other: {LABEL_IDS} {problem}")


def labels_of(word: str, value: object) -> tuple[str, ...]:
    """The labels; a ValueError names the word."""
    try:
        return as_labels(value)
    except ValueError as error:
        raise ValueError(f"{word}: {error}") from None


def first_difference(known: Mapping[str, tuple[str, ...]], first: str, second: str) -> str:
    if len(known[first]) != len(known[second]):
        return f": {len(known[first])} and {len(known[second])} labels"
    index = next(i for i, (a, b) in enumerate(zip(known[first], known[second], strict=True)) if a != b)
    return f": class {index} is {brief(known[first][index])} and {brief(known[second][index])}"


def label_ids(value: object) -> dict[str, int]:
    """{"cat": 0, "dog": "1"} -> {"cat": 0, "dog": 1}."""
    if not isinstance(value, Mapping) or not value:
        raise ValueError("label2id: expected one class for each name")
    ids = {}
    for label, index in value.items():
        number = class_number(index)
        if number is None or not isinstance(label, str):
            raise ValueError(f"label2id: {brief(label)} has the class {brief(index)}, expected a whole number")
        ids[label] = number
    return ids


def from_ids(ids: Mapping[str, int]) -> tuple[str, ...]:
    twice = [index for index, times in Counter(ids.values()).items() if times > 1]
    if twice:
        both = [label for label, index in ids.items() if index == twice[0]]
        raise ValueError(f"label2id: {brief(both[0])} and {brief(both[1])} are both class {twice[0]}")
    return labels_of("label2id", {index: label for label, index in ids.items()})


def as_labels(value: object) -> tuple[str, ...]:
    """["cat", "dog"] or {"0": "cat", "1": "dog"} (also with int keys) -> ("cat", "dog"); ValueError otherwise."""
    if isinstance(value, Mapping):
        by_class: dict[int, object] = {}
        for key, name in value.items():
            index = class_number(key)
            if index is None or index in by_class:
                raise ValueError(f"expected the classes 0..{len(value) - 1} as keys, got {brief(key)}")
            by_class[index] = name
        if missing := [index for index in range(len(by_class)) if index not in by_class]:
            counted = " (the classes count from 1)" if set(by_class) == set(range(1, len(by_class) + 1)) else ""
            raise ValueError(
                f"expected the classes 0..{len(by_class) - 1} as keys, and {missing[0]} is missing{counted}"
            )
        value = [by_class[index] for index in range(len(by_class))]
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) and name for name in value):
        raise ValueError("expected one name per class, as text")
    for name in value:
        if len(name) > LONGEST_LABEL or not is_line(name):
            raise ValueError(f"expected names of one line, got {brief(name)}")
    return tuple(value)


def is_line(name: str) -> bool:
    """Whether a name has no control characters and can be written as UTF-8."""
    return not re.search(r"[\x00-\x08\x0a-\x1f\x7f\u2028\u2029\ud800-\udfff]", name)


def class_number(value: object) -> int | None:
    """0 or "0" -> 0; None for everything else, such as "00" and true."""
    if isinstance(value, str) and re.fullmatch("0|[1-9][0-9]{0,8}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None


def repeated(labels: tuple[str, ...]) -> str | None:
    """A clause about classes that share a name, or None. The labels of ImageNet have two such pairs."""
    twice = [name for name, times in Counter(labels).items() if times > 1]
    return f"{len(twice)} names belong to several classes each, such as {brief(twice[0])}" if twice else None


def labels_in_file(text: str) -> tuple[str, ...]:
    """The labels in the file at path `text`: one per line, a JSON list, or JSON {"0": name, …}.

    Raises:
        ValueError: the file cannot be read, or holds something else.
    """
    try:
        content = read_text(Path(text)).rstrip()
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    if content.lstrip().startswith(("[", "{")):
        try:
            names = parse_json(content)
        except ValueError as error:
            raise ValueError(f"not JSON: {error}") from error
        return as_labels(names)
    lines = [line.strip() for line in re.split("\r\n|\n|\r", content)]
    if lines == [""]:
        raise ValueError("expected one name per class, as text")
    if "" in lines:
        raise ValueError(f"line {lines.index('') + 1} is empty, expected one name per line")
    return as_labels(lines)
