"""Checkpoint file -> Checkpoint: a module in eval mode, its spec, and how images are prepared for it.

`load` is the way through; `files`, `pt2` and `custom` read, `wrappers` and `canonical` name, `infer` settles the spec,
`build` fills the reference model, `recognise` compares a foreign module with it.
"""

from __future__ import annotations

from paraexport.checkpoint.load import Checkpoint as Checkpoint
from paraexport.checkpoint.load import load_checkpoint as load_checkpoint
from paraexport.checkpoint.native import save_checkpoint as save_checkpoint
