"""Turns a checkpoint file into a Checkpoint: a module in eval mode, its spec, its preprocessing and its labels.

`load` calls the other modules. `files`, `pt2` and `custom` read files; `wrappers` and `canonical` find and rename the
tensors; `infer` settles the spec; `build` fills the reference model; `module` and `recognise` handle modules.
"""
