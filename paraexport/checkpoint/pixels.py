"""Holds the words about pixels of one config, and the name of its image processor."""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.config_reading import ConfigReading, shown
from paraexport.checkpoint.words.values import truth

NAMES = ("image_processor_type", "feature_extractor_type")
LONGEST_NAME = 80


class Pixels:
    """The words about pixels of one config."""

    def __init__(self, reading: ConfigReading, source: str, words: Mapping[str, object]) -> None:
        self.reading = reading
        self.source = source
        self.words = words

    def text(self, *names: str) -> str:
        """The source and these words, for a message."""
        words = " ".join(shown(name, self.words[name]) for name in names if name in self.words)
        return f"{self.source}: {words}"

    def switch(self, name: str, default: bool, settled_by: tuple[str, ...]) -> bool:
        """The value of a `do_…` word. A value that is neither true nor false is refused."""
        if name not in self.words:
            return default
        try:
            return truth(self.words[name])
        except ValueError as error:
            self.reading.refuse(self.text(name), str(error), settled_by)
            return default

    @property
    def processor(self) -> str:
        """The name of Hugging Face's image processor, for messages. Empty if the config has none."""
        name = next((self.words[name] for name in NAMES if name in self.words), "")
        return name if isinstance(name, str) and name.isprintable() and len(name) <= LONGEST_NAME else "this processor"
