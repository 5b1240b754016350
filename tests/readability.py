"""Words per sentence in the documents: `python -m tests.readability`.

Only prose counts. Headings, tables, code blocks, pictures and menus of links are left out. A list item ends its
sentence. Inline code and a link count as the words that a reader sees, with inline code as one word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

ROOT = Path(__file__).resolve().parent.parent
PATTERNS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/*.md", "models/*.md", "calib/README.md")

ITEM = re.compile(r"\s*(?:[-*+]|\d+\.)\s+")
SKIPPED = re.compile(r"\s*(?:\||#|!\[|\[[^]]*\]\([^)]*\) ·)")
"""Tables, headings, pictures, and menus such as `[layout](…) · [bundle](…)`."""
TITLE = re.compile(r"^\*\*[^*]+\.\*\*\s*")
"""A paragraph's title, `**Profiles.**`, is a heading and no sentence."""
END = re.compile(r"(?<=[.!?])[\"')*]*\s+(?=[\"'(*]*(?:[A-Z0-9]|CODE))")
SHORTENED = re.compile(r"\b(?:e\.g|i\.e|vs|cf|[A-Z])\.$")
"""A full stop after one of these ends no sentence."""


@dataclass(frozen=True)
class Readability:
    document: str
    sentences: int
    median_words: float
    mean_words: float
    longest: str


def measure(document: str, text: str) -> Readability:
    """The figures of one document, given as Markdown."""
    found = list(sentences(text))
    lengths = [words(sentence) for sentence in found] or [0]
    longest = max(found, key=words, default="")
    return Readability(document, len(found), median(lengths), mean(lengths), longest)


def sentences(markdown: str) -> Iterator[str]:
    for paragraph in paragraphs(markdown):
        pending = ""
        for piece in END.split(plain(paragraph)):
            pending = f"{pending} {piece}".strip()
            if SHORTENED.search(pending) is None:
                if words(pending):
                    yield pending
                pending = ""
        if words(pending):
            yield pending


def words(sentence: str) -> int:
    """How many words have a letter or a digit: `a - b` has two."""
    return sum(any(character.isalnum() for character in word) for word in sentence.split())


def paragraphs(markdown: str) -> Iterator[str]:
    """Each paragraph and each list item, on one line."""
    collected: list[str] = []
    fenced = blank = in_list = False
    for line in [*markdown.splitlines(), ""]:
        is_fence = line.lstrip().startswith("```")
        fenced ^= is_fence
        is_item = ITEM.match(line) is not None
        is_code = fenced or is_fence or (blank and not in_list and line.startswith("    "))
        is_end = not line.strip() or is_code or is_item or SKIPPED.match(line) is not None
        if is_end and collected:
            yield " ".join(collected)
            collected = []
        if is_item or (line.strip() and not is_end):
            collected.append(ITEM.sub("", line, count=1).strip() if is_item else line.strip())
        in_list = is_item or (in_list and (not line.strip() or line.startswith("  ")))
        blank = not line.strip() or (blank and is_code)


def plain(paragraph: str) -> str:
    """The words that a reader sees."""
    without_code = re.sub(r"`+[^`]+`+", "CODE", paragraph)
    linked = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", without_code)
    return TITLE.sub("", linked).replace("**", "")


def documents() -> list[Path]:
    return sorted(path for pattern in PATTERNS for path in ROOT.glob(pattern))


def main() -> None:
    print(f"{'document':28} {'sentences':>9} {'median':>7} {'mean':>6} {'longest':>8}")
    for path in documents():
        name = path.relative_to(ROOT).as_posix()
        one = measure(name, path.read_text(encoding="utf-8"))
        print(f"{name:28} {one.sentences:9} {one.median_words:7.1f} {one.mean_words:6.1f} {words(one.longest):8}")


if __name__ == "__main__":
    main()
