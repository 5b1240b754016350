"""State dicts that are not those of one Para-Former: what is wrong is named, all of it at once."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paraexport.checkpoint.load import load_checkpoint
from paraexport.errors import CheckpointError, InputError, SpecError
from tests.checkpoint.test_wrappers import SPEC, WEIGHTS, released
from tests.checkpoint.writers import TIMM, saved, state_dict

BLOCK = "paraformerbranches.branches.{}.{}"


def refused(folder: Path, written: object, kind: type[InputError] = CheckpointError, **overrides: str) -> str:
    """The one line with which the weights are refused, without their path."""
    path = saved(folder / "a.pt", written)
    with pytest.raises(kind) as caught:
        load_checkpoint(path, overrides=overrides)
    message = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def changed(*without: str, **added: Tensor) -> dict[str, Tensor]:
    """The weights of a good model without some and with others, `__` standing for a dot."""
    kept = {name: tensor for name, tensor in released().items() if name not in without}
    return {**kept, **{name.replace("__", "."): tensor for name, tensor in added.items()}}


def test_missing_unexpected_and_misshaped_tensors_are_listed_at_once(tmp_path: Path) -> None:
    missing, misshaped = BLOCK.format(1, "0.norm.weight"), BLOCK.format(0, "3.fn.net.0.weight")
    written = changed(missing, extra__weight=torch.ones(2, 3))
    written[misshaped] = torch.ones(24, 7)
    message = refused(tmp_path, written)
    assert f"1 missing: {missing};" in message
    assert "1 unexpected: extra.weight [2, 3];" in message
    assert f"1 misshaped: {misshaped} expected [24, 12], got [24, 7];" in message


def test_a_misshaped_third_of_a_packed_tensor_is_named(tmp_path: Path) -> None:
    written = changed()
    written[BLOCK.format(0, "0.fn.to_qkv.weight")] = torch.ones(96, 12)
    message = refused(tmp_path, written)
    assert "3 misshaped" in message
    assert "branches.0.0.fn.to_qkv.weight (key) expected [64, 12], got [32, 12]" in message


def test_a_packed_tensor_that_does_not_fall_into_three(tmp_path: Path) -> None:
    written = changed()
    written[BLOCK.format(0, "0.fn.to_qkv.weight")] = torch.ones(100, 12)
    assert "to_qkv.weight [100, 12] does not hold query, key and value in equal parts" in refused(tmp_path, written)


def test_two_names_for_one_place_contradict_each_other(tmp_path: Path) -> None:
    message = refused(tmp_path, changed(pos_embed=torch.ones(1, 5, 12)))
    assert "pos_embedding and pos_embed are both" in message


def test_a_norm_of_its_own_in_each_branch_is_another_architecture(tmp_path: Path) -> None:
    norms = {f"branches.{branch}.norm.{part}": torch.ones(12) for branch in range(2) for part in ("weight", "bias")}
    others = {name: tensor for name, tensor in changed().items() if not name.startswith("mlp_head.0.")}
    message = refused(tmp_path, {**others, **norms})
    assert "branches.0.norm.weight and branches.1.norm.weight: each branch has its own norm" in message
    assert "--module FILE.py:FUNCTION" in message


def test_missing_positions_are_asked_for_under_their_usual_names(tmp_path: Path) -> None:
    message = refused(tmp_path, changed("pos_embedding"))
    assert "the names are those of released, but some tensors are wrong" in message
    assert "pos_embed" in message


def test_a_branch_that_is_not_there_is_missing_whole(tmp_path: Path) -> None:
    written = {name.replace(".branches.1.", ".branches.2."): tensor for name, tensor in released().items()}
    message = refused(tmp_path, written)
    assert f"22 missing: {BLOCK.format(1, '0.norm.weight')}, " in message
    assert ", and 2 more" in message


@pytest.mark.parametrize("index", ["99999", "999999999"])
def test_a_wild_index_costs_no_memory(index: str, tmp_path: Path) -> None:
    written = changed()
    written[BLOCK.format(index, "0.norm.weight")] = torch.ones(12)
    message = refused(tmp_path, written)
    assert "expected consecutive numbers" in message
    assert BLOCK.format(index, "0") in message


@pytest.mark.parametrize("index", ["9" * 900, "²", "-1", "#", ""])
def test_an_index_that_is_none(index: str, tmp_path: Path) -> None:
    written = changed()
    written[BLOCK.format(index, "0.norm.weight")] = torch.ones(12)
    assert f"1 unexpected: {BLOCK.format(index, '0.norm.weight')} [12]" in refused(tmp_path, written)


@pytest.mark.parametrize("name", ["a" * 1001, "head\nweight", "\x1b[2Jhead.weight"])
def test_names_that_no_parameter_has(name: str, tmp_path: Path) -> None:
    assert "a name that no parameter can have" in refused(tmp_path, {**released(), name: torch.ones(1)})


def test_a_residual_network_is_no_transformer(tmp_path: Path) -> None:
    written = {f"layer{stage}.0.conv1.weight": torch.ones(2, 2, 3, 3) for stage in range(1, 5)}
    written |= nn.BatchNorm2d(2).state_dict(prefix="bn1.")
    message = refused(tmp_path, {**written, "fc.weight": torch.ones(10, 2), "fc.bias": torch.ones(10)})
    assert "the 10 tensors contain no Transformer blocks of a known convention" in message
    assert "got layer1.0.conv1.weight, bn1.weight, bn1.bias, bn1.running_mean" in message
    assert "--module FILE.py:FUNCTION" in message


def test_weights_that_are_not_finite_are_named_and_counted(tmp_path: Path) -> None:
    head = torch.tensor([1, 2, float("inf"), 4, 5])
    written = changed(cls_token=torch.full((1, 1, 12), float("nan")), mlp_head__1__bias=head)
    assert "NaN or infinite: 12 of 12 in cls_token, 1 of 5 in mlp_head.1.bias" in refused(tmp_path, written)


def test_weights_beyond_float32_are_not_called_infinite(tmp_path: Path) -> None:
    message = refused(tmp_path, changed(cls_token=torch.full((1, 1, 12), -1e300, dtype=torch.float64)))
    assert "weights are too large for float32: cls_token (expected at most 3.4e+38, got 1e+300)" in message


def quantised() -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(torch.ones(5, 12), 0.1, 0, torch.qint8)


@pytest.mark.parametrize(
    ("tensor", "kind"),
    [
        (torch.ones(5, 12, dtype=torch.int8), "int8"),
        (torch.ones(5, 12, dtype=torch.bool), "bool"),
        (torch.ones(5, 12, dtype=torch.complex64), "complex64"),
        (torch.ones(5, 12).to(torch.float8_e4m3fn), "float8_e4m3fn"),
        (torch.ones(5, 12).to_sparse(), "sparse_coo float32"),
        (torch.ones(5, 12, device="meta"), "meta float32"),
        (quantised(), "qint8"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_named(tensor: Tensor, kind: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = saved(tmp_path / "a.pt", changed(mlp_head__1__weight=tensor))
    with pytest.raises(
        CheckpointError, match=f"tensors are not plain floating-point numbers: mlp_head.1.weight {kind} "
    ):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mlp_head.1.weight", []),
        ("mlp_head.1.weight", [60]),
        ("pos_embedding", [60]),
        ("to_patch_embedding.1.weight", []),
        ("to_patch_embedding.1.weight", [12, 4, 4]),
        ("to_patch_embedding.1.weight", [12, 3, 4, 0]),
        ("to_patch_embedding.1.weight", [12, 0]),
        ("mlp_head.1.weight", [0, 12]),
        ("pos_embedding", [1, 0, 12]),
        ("cls_token", [0]),
    ],
)
def test_tensors_of_impossible_shape(name: str, shape: list[int], tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {**released(), name: torch.ones(shape)})
    with pytest.raises((CheckpointError, SpecError)) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_queries_of_no_heads(tmp_path: Path) -> None:
    written = {key: torch.ones(0, 12) if "to_qkv" in key else tensor for key, tensor in released().items()}
    assert "heads is 0" in refused(tmp_path, written, SpecError)


def test_patches_that_are_no_square_ask_for_the_image_size(tmp_path: Path) -> None:
    message = refused(tmp_path, changed(pos_embedding=torch.ones(1, 7, 12)), SpecError)
    assert "pos_embedding has positions for 6 patches, which form no square" in message
    assert "--spec image_size=HEIGHTxWIDTH" in message


def test_a_class_token_that_seems_to_be_missing_is_pointed_at(tmp_path: Path) -> None:
    assert "4 would, with a class token, but no tensor has its name" in refused(
        tmp_path, changed("cls_token"), SpecError
    )
    assert "check whether a class token is missing" in refused(
        tmp_path, changed("cls_token"), SpecError, image_size="8"
    )


def test_patches_of_unknown_shape_ask_for_it(tmp_path: Path) -> None:
    message = refused(tmp_path, changed(to_patch_embedding__1__weight=torch.ones(12, 32)), SpecError)
    assert "patch_size: 32 values form no square patch of 1 or 3 channels" in message
    assert "--spec patch_size=HEIGHTxWIDTH" in message


def test_all_open_fields_are_asked_for_at_once(tmp_path: Path) -> None:
    written = state_dict(TIMM.write({**WEIGHTS, "embedding.patch.projection.weight": conv()}, SPEC))
    written["pos_embed"] = torch.ones(1, 7, 12)
    message = refused(tmp_path, written, SpecError)
    assert "image_size: " in message
    assert "heads: " in message
    assert "--spec heads=N as in training" in message


def conv() -> Any:
    return WEIGHTS["embedding.patch.projection.weight"].reshape(12, 3, 4, 4)


def test_biases_that_are_nowhere_are_zero_aloud(tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(tmp_path / "a.pt", changed("mlp_head.1.bias")))
    reasons = [item.reason for item in loaded.assumptions if item.field == "bias"]
    assert reasons == ["the checkpoint has none for head"]


def test_a_norm_that_is_nowhere_is_none_aloud(tmp_path: Path) -> None:
    loaded = load_checkpoint(saved(tmp_path / "a.pt", changed("mlp_head.0.weight", "mlp_head.0.bias")))
    assert [item.value for item in loaded.assumptions if item.field == "norm"] == ["none"]


def test_a_bias_missing_in_one_layer_only_is_missing(tmp_path: Path) -> None:
    name = BLOCK.format(1, "1.fn.net.0.bias")
    assert f"1 missing: {name};" in refused(tmp_path, changed(name))
