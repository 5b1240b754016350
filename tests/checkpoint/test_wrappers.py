"""Finds a state dict inside wrappers, and reports which of several copies of the model is used."""

from __future__ import annotations

import argparse
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from paraexport.checkpoint.load import Checkpoint, load_checkpoint
from paraexport.errors import CheckpointError, SpecError
from paraexport.model.spec import Spec
from tests import reference
from tests.checkpoint.writers import RELEASED, TIMM, random_weights, saved, state_dict

SPEC = Spec(
    image_size=(8, 8), channels=3, classes=5, patch_size=(4, 4), dim=12, branches=2, depth=2, heads=1, head_dim=64,
    mlp_dim=24, residual="normalized", qkv_bias=False,
)  # fmt: skip
WEIGHTS = random_weights(SPEC)
OTHER = random_weights(SPEC, seed=1)
IMAGES = np.random.default_rng(2).standard_normal((2, 3, 8, 8)).astype(np.float32)


def released(weights: Mapping[str, Any] = WEIGHTS, prefix: str = "") -> dict[str, Tensor]:
    written = state_dict(RELEASED.write(dict(weights), SPEC))
    return {prefix + name: tensor for name, tensor in written.items()}


def answers_as(loaded: Checkpoint, weights: Mapping[str, Any]) -> bool:
    """Whether the loaded module is the one with these weights."""
    expected = reference.logits(weights, SPEC, IMAGES)
    with torch.no_grad():
        logits = loaded.module(torch.from_numpy(IMAGES)).numpy()
    return float(np.abs(logits - expected).max()) <= 1e-5 * float(np.abs(expected).max())


def load(folder: Path, content: object, **overrides: str) -> Checkpoint:
    return load_checkpoint(saved(folder / "model.pt", content), overrides=overrides)


def weights_assumption(loaded: Checkpoint) -> str:
    return "; ".join(f"{item.value}: {item.reason}" for item in loaded.assumptions if item.field == "weights")


WRAPPED: dict[str, Callable[[], object]] = {
    "bare": released,
    "state_dict": lambda: {"state_dict": released()},
    "model": lambda: {"model": released(), "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": []}},
    "net": lambda: {"net": released(prefix="module."), "acc": 93.5, "epoch": 199},
    "model_state_dict": lambda: {"model_state_dict": released(), "loss": torch.tensor(0.5), "epoch": torch.tensor(3)},
    "twice": lambda: {"state_dict": {"model": released()}},
    "module.": lambda: released(prefix="module."),
    "_orig_mod.": lambda: released(prefix="_orig_mod."),
    "model.": lambda: {"state_dict": released(prefix="model.")},
    "compiled under DataParallel": lambda: released(prefix="module._orig_mod."),
    "compiled DataParallel in Lightning": lambda: {"state_dict": released(prefix="model._orig_mod.module.")},
    "any name": lambda: {"classifier_weights": released(), "rng": torch.zeros(4, dtype=torch.uint8)},
    "scheduler and scaler": lambda: {
        "model": released(),
        "scheduler": {"last_epoch": 3, "base_lrs": [0.1], "_last_lr": torch.tensor(0.1)},
        "scaler": {"scale": torch.tensor(65536.0), "growth_factor": 2.0},
    },
    "namespace": lambda: {"net": released(), "args": argparse.Namespace(lr=0.1, batch_size=128, net="paraformer")},
    "numpy scalars": lambda: {"net": released(), "acc": np.float64(93.5), "epoch": np.int64(7), "cm": np.zeros((2, 2))},
    "simple namespace": lambda: {"model": released(), "cfg": types.SimpleNamespace(lr=0.1)},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_a_wrapped_state_dict_is_found(wrapping: str, tmp_path: Path) -> None:
    loaded = load(tmp_path, WRAPPED[wrapping]())
    assert loaded.spec == SPEC
    assert answers_as(loaded, WEIGHTS)


def test_parameters_of_a_training_run_are_frozen_and_the_module_is_in_eval_mode(tmp_path: Path) -> None:
    loaded = load(tmp_path, {name: torch.nn.Parameter(tensor) for name, tensor in released().items()})
    assert not loaded.module.training
    assert not any(parameter.requires_grad for parameter in loaded.module.parameters())


@pytest.mark.parametrize("averaged", ["model_ema", "ema", "state_dict_ema", "ema_state_dict"])
@pytest.mark.parametrize("plain", ["model", "state_dict", "net"])
@pytest.mark.parametrize("plain_first", [True, False])
def test_the_plain_weights_win_over_an_averaged_copy_aloud(
    plain: str, averaged: str, plain_first: bool, tmp_path: Path
) -> None:
    content = {plain: released(), averaged: released(OTHER, "module.")}
    loaded = load(tmp_path, content if plain_first else dict(reversed(content.items())))
    assert answers_as(loaded, WEIGHTS)
    expected = f"the averaged copy under '{averaged}' is left out; to use it, give --weights {averaged}"
    assert weights_assumption(loaded) == f"{plain}: {expected}"


def test_an_averaged_copy_alone_is_taken_aloud(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"model_ema": released(OTHER), "epoch": 3})
    assert answers_as(loaded, OTHER)
    assert weights_assumption(loaded) == "model_ema: the file contains only an averaged copy"


def test_an_averaged_copy_with_its_own_wrapper_is_taken(tmp_path: Path) -> None:
    loaded = load(tmp_path, {"ema": {"module": released(OTHER), "decay": 0.999}, "epoch": 3})
    assert answers_as(loaded, OTHER)


@pytest.mark.parametrize(
    ("plain", "averaged"), [("model.", "ema_model."), ("", "ema."), ("ema.model.", "ema.ema_model.")]
)
def test_an_averaged_copy_in_the_same_state_dict_is_left_out_aloud(plain: str, averaged: str, tmp_path: Path) -> None:
    loaded = load(tmp_path, {"state_dict": {**released(OTHER, averaged), **released(prefix=plain)}})
    assert answers_as(loaded, WEIGHTS)
    assert f"the averaged copy under '{averaged.split('.')[-2]}' is left out" in weights_assumption(loaded)


@pytest.mark.parametrize("wrapped", [True, False])
def test_an_averaged_copy_without_names_is_reported(wrapped: bool, tmp_path: Path) -> None:
    shadow = list(released(OTHER).values())
    loaded = load(tmp_path, {"model": released(), "ema": {"shadow_params": shadow} if wrapped else shadow})
    assert answers_as(loaded, WEIGHTS)
    place = "ema.shadow_params" if wrapped else "ema"
    assert f"{place} is left out, because its tensors have no names" in weights_assumption(loaded)


def test_a_plain_wrapper_goes_without_saying(tmp_path: Path) -> None:
    assert not weights_assumption(load(tmp_path, {"state_dict": released(), "epoch": 3}))


def test_several_state_dicts_of_unknown_use_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="teacher, student"):
        load(tmp_path, {"teacher": released(), "student": released(OTHER)})


def test_lightning_hyper_parameters_are_read(tmp_path: Path) -> None:
    other = {"heads": 4, "head_dim": 4, "patch_projection": "conv", "residual": "input", "eps": 1e-6, "norm": "before"}
    names, spec = TIMM, Spec(**{**vars(SPEC), **other})
    content = {
        "state_dict": {
            f"model.{name}": tensor for name, tensor in state_dict(names.write(random_weights(spec), spec)).items()
        },
        "hyper_parameters": {"num_heads": 4, "global_pool": "token", "lr": 1e-3},
        "pytorch-lightning_version": "2.5.0",
        "callbacks": {"ModelCheckpoint{'monitor': 'loss'}": {"best_model_score": torch.tensor(0.1)}},
        "loops": {"fit_loop": {"state_dict": {}}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3}]}],
        "lr_schedulers": [],
    }
    loaded = load(tmp_path, content)
    assert loaded.spec == spec
    assert not {"heads", "pool"} & {item.field for item in loaded.assumptions}


def test_a_namespace_of_arguments_is_read(tmp_path: Path) -> None:
    content = {"net": released(), "args": argparse.Namespace(pool="mean", num_classes=5, lr=np.float64(0.1))}
    loaded = load(tmp_path, content)
    assert loaded.spec is not None
    assert loaded.spec.pool == "mean"


def test_an_option_wins_over_a_config(tmp_path: Path) -> None:
    loaded = load(
        tmp_path, {"net": released(), "config": {"pool": "mean", "image_mean": [0.1] * 3}}, pool="cls", mean="0.3"
    )
    assert loaded.spec == SPEC
    assert loaded.preprocessing.mean == (0.3, 0.3, 0.3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_heads": 0}, "num_heads=0 is not a whole number, 1 or more"),
        ({"hidden_act": "quick_gelu"}, "hidden_act='quick_gelu' is not supported"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps='small'"),
        ({"num_heads": 7}, "heads=7 is not possible"),
    ],
)
def test_a_config_that_no_paraformer_can_have_is_refused(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        load(tmp_path, {"net": released(), "config": config})
    assert "\n" not in str(caught.value)


def test_tied_weights_stay_one_parameter(tmp_path: Path) -> None:
    written = released()
    tied = "paraformerbranches.branches.{}.0.fn.to_out.0.weight"
    written[tied.format(1)] = written[tied.format(0)]
    module = load(tmp_path, {"net": written}).module
    parameters = dict(module.named_parameters(remove_duplicate=False))
    first, second = (parameters[f"branches.{branch}.layers.0.attention.output.weight"] for branch in (0, 1))
    assert first is second
    assert first is not parameters["branches.0.layers.1.attention.output.weight"]


def test_branches_that_share_packed_weights_stay_tied(tmp_path: Path) -> None:
    written = released()
    for name in [name for name in written if ".branches.1." in name]:
        written[name] = written[name.replace(".branches.1.", ".branches.0.")]
    names = [name for name, _ in load(tmp_path, written).module.named_parameters()]
    assert any(name.startswith("branches.0.") for name in names)
    assert not any(name.startswith("branches.1.") for name in names)


@pytest.mark.parametrize(("dtype", "coarse"), [(torch.float16, 1e-2), (torch.bfloat16, 1e-1)])
def test_half_weights_become_float32(dtype: torch.dtype, coarse: float, tmp_path: Path) -> None:
    loaded = load(tmp_path, {name: tensor.to(dtype) for name, tensor in released().items()})
    assert {parameter.dtype for parameter in loaded.module.parameters()} == {torch.float32}
    rounded = {name: torch.from_numpy(value).to(dtype).float().numpy() for name, value in WEIGHTS.items()}
    assert answers_as(loaded, rounded)
    assert not answers_as(loaded, WEIGHTS)


def test_double_weights_are_rounded_aloud(tmp_path: Path) -> None:
    loaded = load(tmp_path, {name: tensor.double() for name, tensor in released().items()})
    assert answers_as(loaded, WEIGHTS)
    assert [item.value for item in loaded.assumptions if item.field == "dtype"] == ["float32"]


def test_views_and_strides_are_read_as_they_are(tmp_path: Path) -> None:
    written = {name: tensor.t().contiguous().t() if tensor.ndim == 2 else tensor for name, tensor in released().items()}
    assert answers_as(load(tmp_path, written), WEIGHTS)


def test_the_format_before_zip_is_read(tmp_path: Path) -> None:
    loaded = load_checkpoint(
        saved(tmp_path / "model.t7", {"net": released(prefix="module."), "acc": 90.0}, legacy=True)
    )
    assert answers_as(loaded, WEIGHTS)


def test_a_safetensors_model_with_tied_weights_is_read(tmp_path: Path) -> None:
    """`save_model` stores what is tied once, under one of its names."""
    written = released()
    holder = torch.nn.Module()
    for name, tensor in written.items():
        place = holder
        *path, leaf = name.split(".")
        for step in path:
            if step not in dict(place.named_children()):
                place.add_module(step, torch.nn.Module())
            place = place.get_submodule(step)
        place.register_parameter(leaf, torch.nn.Parameter(tensor))
    tied = "paraformerbranches.branches.{}.0.fn.to_out.0"
    first, second = (holder.get_submodule(tied.format(branch)) for branch in (0, 1))
    second.register_parameter("weight", first.get_parameter("weight"))
    safetensors.torch.save_model(holder, str(tmp_path / "model.safetensors"))
    parameters = dict(load_checkpoint(tmp_path / "model.safetensors").module.named_parameters(remove_duplicate=False))
    output = "branches.{}.layers.0.attention.output.weight"
    assert parameters[output.format(0)] is parameters[output.format(1)]
    assert torch.equal(parameters[output.format(0)], first.get_parameter("weight"))


def left_out(loaded: Checkpoint) -> str:
    return "; ".join(item.value for item in loaded.assumptions if item.field == "left_out")


def test_an_averaged_model_of_torch_is_read_without_its_counter(tmp_path: Path) -> None:
    holder = torch.nn.Sequential(torch.nn.Linear(2, 2))
    counted = torch.optim.swa_utils.AveragedModel(holder).state_dict()
    assert set(counted) == {"n_averaged", "module.0.weight", "module.0.bias"}
    loaded = load(tmp_path, {"n_averaged": counted["n_averaged"], **released(prefix="module.")})
    assert answers_as(loaded, WEIGHTS)
    assert left_out(loaded) == "n_averaged"


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("embeddings.position_ids", torch.arange(5)[None]),
        ("norm.num_batches_tracked", torch.tensor(3)),
        ("step", torch.tensor(7, dtype=torch.int32)),
        ("mask", torch.ones(5, 5, dtype=torch.bool)),
        ("ema.decay", torch.tensor(0.999)),
    ],
)
def test_counters_flags_and_indices_are_left_out_aloud(name: str, tensor: Tensor, tmp_path: Path) -> None:
    loaded = load(tmp_path, {**released(), name: tensor})
    assert answers_as(loaded, WEIGHTS)
    assert left_out(loaded) == name


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("attn_mask", torch.ones(5, 5, dtype=torch.bool).tril()),
        ("blocks.0.attention_mask", torch.zeros(5, 5).fill_diagonal_(-1e9)),
        ("layers.causal", torch.ones(1, 1, 5, 5, dtype=torch.bool).tril()),
        ("mask", torch.eye(5, dtype=torch.int64)),
    ],
)
def test_a_mask_for_attention_is_refused(name: str, tensor: Tensor, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"an attention mask: {name} \(expected .*--module"):
        load(tmp_path, {**released(), name: tensor})


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int64, torch.bool])
def test_weights_in_integers_are_not_left_out(dtype: torch.dtype, tmp_path: Path) -> None:
    written = released()
    written["mlp_head.1.weight"] = written["mlp_head.1.weight"].to(dtype)
    with pytest.raises(CheckpointError, match=r"not plain floating-point numbers: mlp_head\.1\.weight"):
        load(tmp_path, written)


def test_packed_weights_under_names_of_their_own_are_not_left_out(tmp_path: Path) -> None:
    packed = {"paraformerbranches.branches.0.0.fn.to_out.0.qweight": torch.ones(4, 4, dtype=torch.int32)}
    with pytest.raises(CheckpointError, match="before quantisation or packing"):
        load(tmp_path, {**released(), **packed})


@pytest.mark.parametrize("step", ["_checkpoint_wrapped_module", "_orig_mod", "_fsdp_wrapped_module", "module"])
def test_wrappers_in_the_middle_of_a_name_are_seen_through(step: str, tmp_path: Path) -> None:
    written = {}
    for name, tensor in released(prefix="net.").items():
        *outer, module, leaf = name.split(".")
        written[".".join([*outer, step, module, leaf])] = tensor
    assert answers_as(load(tmp_path, {"state_dict": written}), WEIGHTS)


def test_the_function_of_the_user_gets_weights_without_wrappers_and_counters(tmp_path: Path) -> None:
    own = "from torch import nn\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, 5))\n"
    (tmp_path / "own.py").write_text(own)
    linear = torch.nn.Linear(12, 5)
    content = {
        "module.1._checkpoint_wrapped_module.weight": linear.weight,
        "module.1._checkpoint_wrapped_module.bias": linear.bias,
        "n_averaged": torch.tensor(3),
    }
    path = saved(tmp_path / "model.pt", content)
    loaded = load_checkpoint(path, module=f"{tmp_path / 'own.py'}:make", overrides={"image_size": "2", "channels": "3"})
    images = torch.randn(2, 3, 2, 2)
    with torch.no_grad():
        assert torch.equal(loaded.module(images), linear(images.flatten(1)))


@pytest.mark.parametrize(
    "name", ["criterion.weight", "loss_fn.pos_weight", "train_acc.tp", "val_auroc.value", "metrics.f1.sum_value"]
)
def test_losses_and_metrics_of_a_lightning_file_are_left_out_aloud(name: str, tmp_path: Path) -> None:
    loaded = load(tmp_path, {"state_dict": {**released(prefix="model."), name: torch.ones(5)}})
    assert answers_as(loaded, WEIGHTS)
    assert left_out(loaded) == name


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (["head.parametrizations.weight.original0", "head.parametrizations.weight.original1"], "remove_parametriz"),
        (["head.weight_g", "head.weight_v"], "remove_weight_norm"),
        (["head.weight_orig", "head.weight_mask"], "prune.remove"),
        (["head.base_layer.weight", "head.lora_A.default.weight"], "merge_and_unload"),
        (["_flat_param"], "full state dict"),
    ],
)
def test_weights_that_are_still_to_be_computed_are_refused_with_the_call(
    names: list[str], remedy: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=remedy) as caught:
        load(tmp_path, {**released(), **{name: torch.ones(5, 5) for name in names}})
    assert names[0] in str(caught.value)


COPIES: dict[str, Callable[[], dict[str, Any]]] = {
    "beside": lambda: {"model": released(), "teacher": released(OTHER)},
    "averaged": lambda: {"state_dict": released(), "teacher": {"module": released(OTHER), "decay": 0.99}},
    "in one state dict": lambda: {"state_dict": {**released(prefix="model."), **released(OTHER, "teacher.")}},
    "below": lambda: {"net": {"model": released(), "teacher": released(OTHER, "module.")}},
}


@pytest.mark.parametrize("form", COPIES)
def test_which_copy_is_taken_is_said_and_weights_takes_another(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", COPIES[form]())
    first = load_checkpoint(path)
    assert answers_as(first, WEIGHTS)
    assert "'teacher' is left out; to use it, give --weights teacher" in weights_assumption(first)
    other = load_checkpoint(path, weights="teacher")
    assert answers_as(other, OTHER)
    assert not weights_assumption(other)


def test_the_plain_weights_beside_an_averaged_copy_have_a_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", {"state_dict": {**released(), **released(OTHER, "ema.")}})
    assert answers_as(load_checkpoint(path, weights="plain"), WEIGHTS)
    assert answers_as(load_checkpoint(path, weights="ema"), OTHER)
    assert answers_as(load_checkpoint(path, weights="state_dict.ema"), OTHER)


@pytest.mark.parametrize("form", COPIES)
def test_an_unknown_name_of_weights_lists_those_there_are(form: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", COPIES[form]())
    with pytest.raises(CheckpointError, match="are called tutor") as caught:
        load_checkpoint(path, weights="tutor")
    assert "teacher" in str(caught.value.expected)
    assert "weight" not in str(caught.value.expected)


def test_weights_of_one_model_leave_nothing_to_choose(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", released())
    with pytest.raises(CheckpointError, match="no --weights: there is one copy"):
        load_checkpoint(path, weights="ema")


def test_student_and_teacher_are_refused_until_one_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "model.pt", {**released(prefix="student."), **released(OTHER, "teacher.")})
    with pytest.raises(CheckpointError, match="student, teacher; choose one with --weights NAME"):
        load_checkpoint(path)
    assert answers_as(load_checkpoint(path, weights="teacher"), OTHER)
