"""Damages JSON: other values, keys that are missing, repeated or swapped, depth, encodings, odd numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from tests.faults.mutation import mutate

DEEP = 20_000
ODD = (
    *('""', '"0"', '"no"', '"\\ud800"', '"a\\nb"', '"' + "x" * 3000 + '"', '"\u2028"', '"\\u0000"'),
    *("null", "true", "false", "0", "-1", "1", "0.5", "1e-320", "1e308", "1e999", "NaN", "-Infinity", "4294967296"),
    *("-0.0", "9" * 30, "9" * 5000, "[]", "{}", "[[]]", "[null]"),
    *('{"": null}', "[1, 2, 3, 4]", "[0.5, NaN, 0.5]", '["a", "b"]'),
    *('{"height": 8}', '{"height": 8, "width": 1e9}', '{"shortest_edge": 8}', '{"0": "a", "1": "b"}'),
    '{"a": 0, "b": 0}',
    "[" * 60 + "]" * 60,
    "[" * DEEP + "]" * DEEP,
)  # fmt: skip
"""Values as text. No Python value gives many of them."""
MARK = "\ue000"
"""A placeholder for an odd value while the rest is written."""


def damage_json(words: Sequence[str]) -> Callable[[bytes, Random], bytes]:
    """Damage that also uses `words` as other keys."""

    def damage(data: bytes, pick: Random) -> bytes:
        if pick.random() < 0.2:
            return mutate(data, pick)
        value = json.loads(data)
        odd: list[str] = []
        for _ in range(pick.choice((1, 1, 2, 4))):
            change(value, words, odd, pick)
        if pick.random() < 0.02:
            odd.append(pick.choice(ODD))
            value = MARK
        text = json.dumps(value, ensure_ascii=False)
        for value_text in odd:
            text = text.replace(f'"{MARK}"', value_text, 1)
        if pick.random() < 0.05 and text.startswith("{"):
            text = "{" + f'"{pick.choice(words)}": 1, "{pick.choice(words)}": 2, ' + text[1:]
        encoding = pick.choice(("utf-8",) * 16 + ("utf-8-sig", "utf-16", "utf-32-le", "latin-1"))
        return text.encode(encoding, errors="replace")

    return damage


def change(value: Any, words: Sequence[str], odd: list[str], pick: Random) -> None:
    """Make one change somewhere inside `value`."""
    places = [(value, key) for key in keys(value)]
    while places and pick.random() < 0.4:
        inner = [(outer[key], deeper) for outer, key in places for deeper in keys(outer[key])]
        if not inner:
            break
        places = inner
    if not places:
        return
    outer, key = pick.choice(places)
    kind = pick.randrange(6)
    if kind == 0:
        del outer[key]
    elif kind == 1 and isinstance(outer, dict):
        outer[pick.choice(words)] = outer.pop(key)
    elif kind == 2:
        outer[key] = pick.choice(([outer[key]], {pick.choice(words): outer[key]}, str(outer[key])))
    elif kind == 3:
        second, place = pick.choice(places)
        if (second, place) != (outer, key):
            outer[key], second[place] = second[place], outer[key]
    elif kind == 4 and isinstance(outer, dict):
        odd.append(pick.choice(ODD))
        outer[pick.choice(words)] = MARK
    else:
        odd.append(pick.choice(ODD))
        outer[key] = MARK


def keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(len(value))) if isinstance(value, list) else []
