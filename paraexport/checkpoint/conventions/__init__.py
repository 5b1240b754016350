"""Naming conventions for the blocks of known models, one file for each.

A convention is a table: the name of a parameter inside one block -> its name inside `paraexport.model.reference.Layer`.
It also has the fields that such names imply (LayerNorm eps, residual, activation). `blocks` finds where the blocks are.
"""

from __future__ import annotations

from paraexport.checkpoint.conventions.convention import QKV as QKV
from paraexport.checkpoint.conventions.convention import Convention as Convention
from paraexport.checkpoint.conventions.convention import is_number as is_number
from paraexport.checkpoint.conventions.hf import HF
from paraexport.checkpoint.conventions.native import NATIVE
from paraexport.checkpoint.conventions.released import RELEASED as RELEASED
from paraexport.checkpoint.conventions.timm import TIMM
from paraexport.checkpoint.conventions.torch_encoder import TORCH
from paraexport.checkpoint.conventions.vit_pytorch import VIT_PYTORCH
from paraexport.checkpoint.conventions.vit_pytorch import VIT_PYTORCH_OLD as VIT_PYTORCH_OLD

CONVENTIONS = (NATIVE, RELEASED, VIT_PYTORCH, VIT_PYTORCH_OLD, TIMM, TORCH, HF)
