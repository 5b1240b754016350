"""How the blocks of known models are named, one convention a file.

A convention is a table: the name of a parameter inside one block -> its name inside `paraexport.model.reference.Layer`,
and what such names imply (LayerNorm eps, residual, activation). Where the blocks are is discovered, not fixed.
"""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import QKV as QKV
from paraexport.checkpoint.conventions.convention import Convention as Convention
from paraexport.checkpoint.conventions.convention import is_index as is_index
from paraexport.checkpoint.conventions.hf import HF
from paraexport.checkpoint.conventions.native import NATIVE
from paraexport.checkpoint.conventions.released import RELEASED as RELEASED
from paraexport.checkpoint.conventions.timm import TIMM
from paraexport.checkpoint.conventions.torch_encoder import TORCH
from paraexport.checkpoint.conventions.vit_pytorch import VIT_PYTORCH
from paraexport.checkpoint.conventions.vit_pytorch import VIT_PYTORCH_OLD as VIT_PYTORCH_OLD

CONVENTIONS = (NATIVE, RELEASED, VIT_PYTORCH, VIT_PYTORCH_OLD, TIMM, TORCH, HF)
