"""The names of the code that the authors of arXiv 2407.21670 released. It derives from old vit-pytorch.

Its PreNorm passes LN(x) to a module that adds its own input, so the skip adds LN(x): residual `normalized`.
A branch is one list in which attention and feed-forward alternate.
"""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import Convention
from paraexport.checkpoint.conventions.vit_pytorch import OLD_MODULES

RELEASED = Convention(
    name="released",
    branched=True,
    modules=OLD_MODULES,
    parameters={},
    eps=1e-5,
    residual="normalized",
    activation="gelu",
    head_dim=64,
    mean_std=(0.5, 0.2),
    output_is_optional=True,
    patches_by_channel_last=True,
    halves=True,
)
