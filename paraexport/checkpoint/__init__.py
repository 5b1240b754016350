"""Checkpoint file -> Checkpoint: a module in eval mode, its spec, and how images are prepared for it.

`load` is the way through; `files`, `pt2` and `custom` read, `wrappers` and `canonical` name, `infer` settles the spec,
`build` fills the reference model, `recognise` compares a foreign module with it.
"""
