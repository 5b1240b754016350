"""Values as people read them."""

from __future__ import annotations

import pytest

from paraexport.findings.words import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "image", "0 images"),
        (1, "branch", "1 branch"),
        (2, "branch", "2 branches"),
        (1, "class", "1 class"),
        (1000, "class", "1,000 classes"),
        (12345, "layer", "12,345 layers"),
    ],
)
def test_things_are_counted_in_english(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
