"""The words about pixels of one config, and the image processor that reads them."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.reading import Reading, shown
from paraexport.checkpoint.words.values import truth

NAMES = ("image_processor_type", "feature_extractor_type")
LONGEST_NAME = 80


class Pixels:
    """The words about pixels of one config."""

    def __init__(self, reading: Reading, source: str, words: Mapping[str, object]) -> None:
        self.reading = reading
        self.source = source
        self.words = words

    def text(self, *names: str) -> str:
        said = " ".join(shown(name, self.words[name]) for name in names if name in self.words)
        return f"{self.source}: {said}"

    def switch(self, name: str, default: bool, settled_by: tuple[str, ...]) -> bool:
        """A `do_…` word; one that is neither true nor false is refused."""
        if name not in self.words:
            return default
        try:
            return truth(self.words[name])
        except ValueError as error:
            self.reading.refuse(self.text(name), str(error), settled_by)
            return default

    @property
    def processor(self) -> str:
        """The name of Hugging Face's image processor, fit for a message; empty where none is given."""
        name = next((self.words[name] for name in NAMES if name in self.words), "")
        return name if isinstance(name, str) and name.isprintable() and len(name) <= LONGEST_NAME else "this processor"
