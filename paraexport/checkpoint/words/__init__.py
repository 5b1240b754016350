"""Tables with the meaning of every word of a config, one table for each kind of config.

A word is applied, refused with the option that settles it, reported, or ignored because it changes nothing. A word in
no table is reported. `checkpoint.config` reads configs with these tables.
"""

from __future__ import annotations

from collections.abc import Mapping

from paraexport.checkpoint.words.hf import HF
from paraexport.checkpoint.words.hf_images import HF_IMAGES
from paraexport.checkpoint.words.plain import PLAIN
from paraexport.checkpoint.words.timm import TIMM, TIMM_IMAGES, TIMM_MODEL
from paraexport.checkpoint.words.word import ConfigKind as ConfigKind
from paraexport.checkpoint.words.word import Word as Word

TABLES: Mapping[ConfigKind, Mapping[str, Word]] = {
    "hf": HF,
    "hf_images": HF_IMAGES,
    "timm": TIMM,
    "timm_model": TIMM_MODEL,
    "timm_images": TIMM_IMAGES,
    "plain": PLAIN,
}
