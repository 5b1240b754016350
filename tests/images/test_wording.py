"""Counts and shortened lists in messages."""

from __future__ import annotations

import pytest

from paraexport.images.wording import counted, shortened


@pytest.mark.parametrize(("count", "text"), [(0, "0 images"), (1, "1 image"), (2, "2 images")])
def test_a_noun_agrees_with_its_number(count: int, text: str) -> None:
    assert counted(count, "image") == text


@pytest.mark.parametrize(
    ("words", "text"), [([], ""), (["a"], "a"), (["a", "b"], "a; b"), (["a", "b", "c", "d"], "a; b and 2 more")]
)
def test_a_long_list_is_counted(words: list[str], text: str) -> None:
    assert shortened(words, 2, "; ") == text
