"""The experiments on the paper's claims compare what they say, repeat with a seed, and write their results."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from benchmarks.harness.contest import QUICK
from benchmarks.harness.subjects import seeded_model
from benchmarks.paper import accuracy, latency, mixing, pretraining, rendered, sharing, single_block, timing, training
from benchmarks.paper.latency_cuda import StackedBranches
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Residual

SPEC = training.spec(4, 2)
DIM, MLP, TOKENS, CLASSES, PIXELS = 32, 64, 17, 10, 64
EMBEDDING = PIXELS * DIM + DIM + DIM + TOKENS * DIM
HEAD = 2 * DIM + DIM * CLASSES + CLASSES
ATTENTION = 4 * DIM * DIM + DIM
FEED_FORWARD = 2 * DIM * MLP + MLP + DIM
NORMS = 4 * DIM
LAYER = ATTENTION + FEED_FORWARD + NORMS


@pytest.fixture(scope="module")
def task() -> training.Task:
    few = training.noisy_digits().some(160, seed=0)
    return dataclasses.replace(few, test_images=few.test_images[:40], test_labels=few.test_labels[:40])


@pytest.mark.parametrize("residual", ["input", "post"])
def test_one_branch_of_one_layer_is_the_standard_block_of_pytorch(residual: Residual) -> None:
    model = seeded_model(single_block.single_block_spec(residual))
    standard = single_block.with_standard_block(model)
    assert any(isinstance(module, torch.nn.TransformerEncoderLayer) for module in standard.modules())
    assert single_block.difference(model, standard, seed=0) < 1e-13


def test_the_skip_of_the_released_code_is_another_function() -> None:
    model = seeded_model(single_block.single_block_spec("normalized"))
    assert single_block.difference(model, single_block.with_standard_block(model), seed=0) > 0.01


@pytest.mark.parametrize(
    ("variant", "layers"),
    [
        ("own weights", 8 * LAYER),
        ("own weights, own inputs", 8 * (LAYER + 2 * DIM)),
        ("shared attention", ATTENTION + 8 * (FEED_FORWARD + NORMS)),
        ("shared feed-forward", FEED_FORWARD + 8 * (ATTENTION + NORMS)),
        ("all shared, own inputs", LAYER + 8 * 2 * DIM),
        ("one branch", LAYER),
    ],
)
def test_shared_weights_count_once(variant: str, layers: int) -> None:
    model = sharing.VARIANTS[variant](training.spec(8, 1))
    assert training.count_parameters(model) == EMBEDDING + layers + HEAD


def test_branches_that_share_everything_still_differ() -> None:
    torch.manual_seed(0)
    first, second, *_ = sharing.share_everything(SPEC).branch_outputs(torch.randn(2, 1, 32, 32))
    assert (first - second).abs().max() > 0.1


def test_a_fixed_mixing_ignores_the_input_and_takes_the_mean_at_first() -> None:
    tokens = torch.randn(3, TOKENS, DIM)
    mean = mixing.FixedMixing(SPEC, learnt=False)
    expected = mean.output(mean.value(tokens).mean(1, keepdim=True)).expand_as(tokens)
    torch.testing.assert_close(mean(tokens), expected)
    learnt = mixing.FixedMixing(SPEC)
    bias = learnt(torch.zeros_like(tokens))
    torch.testing.assert_close(learnt(2 * tokens) - bias, 2 * (learnt(tokens) - bias))  # attention is not linear
    attention = training.count_parameters(ParaFormer(SPEC))
    replaced = SPEC.branches * SPEC.depth * (2 * DIM * DIM - SPEC.heads * TOKENS**2)
    assert training.count_parameters(mixing.with_fixed_mixing(SPEC)) == attention - replaced


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # vmap has no rule for the attention of a CPU
def test_stacked_branches_answer_as_the_model_does() -> None:
    model = seeded_model(SPEC).double()
    images = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(StackedBranches(model)(images), model(images), rtol=1e-12, atol=1e-12)


def test_a_training_repeats_with_its_seed(task: training.Task) -> None:
    trained = []
    for seed in (0, 0, 1):
        recipe = training.noisy_recipe(seed, quick=True)
        recipe = dataclasses.replace(recipe, batch_size=80)
        model, _ = training.train(training.para_former(training.spec(2, 1)), recipe, task)
        trained.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(trained[0], trained[1])
    assert not torch.equal(trained[0], trained[2])


def test_a_few_images_are_balanced_and_belong_to_the_training_split() -> None:
    whole = training.clean_digits()
    few = whole.some(50, seed=3)
    assert np.bincount(few.labels).tolist() == [5] * 10
    known = {image.tobytes() for image in whole.images}
    assert {image.tobytes() for image in few.images} <= known
    assert not np.array_equal(few.images, whole.some(50, seed=4).images)


def test_rendered_digits_repeat_and_fill_the_grid_of_the_real_ones() -> None:
    images, labels = rendered.rendered_digits(60, seed=0)
    again, _ = rendered.rendered_digits(60, seed=0)
    assert np.array_equal(images, again)
    assert images.shape == (60, 32, 32, 1)
    assert {*labels} == {*range(10)}
    assert (images.max((1, 2, 3)) > 100).all()


def test_fine_tuning_takes_about_as_many_steps_for_any_number_of_images() -> None:
    for count in pretraining.REAL:
        recipe = pretraining.real_recipe(count, 0, fine_tune=True, quick=False)
        steps = recipe.epochs * -(-count // recipe.batch_size)
        assert steps == pytest.approx(pretraining.STEPS, rel=0.1)


def test_shapes_have_every_serial_network_to_compare_with() -> None:
    shapes = latency.shapes((1, 2), 4)
    assert shapes == [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2), (1, 4)]


def test_the_page_of_latencies_divides_the_serial_network_by_the_parallel_one() -> None:
    times = {(1, 1): 1.0, (2, 1): 1.5, (1, 2): 3.0}
    runs = [latency.Run(*shape, 1, "stacked", ms, ms, ms, ms / 2) for shape, ms in times.items()]
    text = latency.describe(runs)
    (line,) = (line for line in text.splitlines() if line.startswith("| 2 "))
    assert [cell.strip() for cell in line.split("|")[2:5]] == ["3 (3 – 3)", "1.5 (1.5 – 1.5)", "2.00"]
    (whole,) = (line for line in text.splitlines() if line.startswith("| 1     | stacked"))
    assert [cell.strip() for cell in whole.split("|")[3:-1]] == ["2 × 1", "2", "2.00", "2.00", "3.00"]


def test_models_are_timed_and_their_calls_need_memory(tmp_path: Path) -> None:
    subjects = timing.prepare({"shared": sharing.share(training.spec(2, 1), "attention")}, [64], tmp_path)
    rows = timing.compete(subjects, 64, dataclasses.replace(QUICK, rounds=1, burst_s=0.001, attempts=1))
    row = rows["shared"]
    assert row.latency_ms is not None
    assert row.error_vs_float64 is not None
    assert row.error_vs_float64 < 1e-5
    hidden_bytes = 64 * TOKENS * MLP * 4
    assert hidden_bytes <= timing.call_bytes(subjects["shared"], 64) < 100 * hidden_bytes


def test_a_script_runs_from_its_command_line_to_its_files(
    task: training.Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "noisy_digits", lambda: task)
    monkeypatch.setattr(accuracy, "BRANCHES", (1, 2))
    monkeypatch.setattr(accuracy, "DEPTHS", (1,))
    monkeypatch.setattr(accuracy, "SERIAL_DEPTH", 2)
    command = ["--quick", "--seed", "0", "--seed", "1", "-o", str(tmp_path)]
    done = CliRunner().invoke(accuracy.main, command, catch_exceptions=False)
    assert done.exit_code == 0
    with (tmp_path / "accuracy.csv").open(newline="") as file:
        shapes = [(line["branches"], line["depth"], line["seed"]) for line in csv.DictReader(file)]
    assert shapes == [(count, depth, seed) for seed in "01" for count, depth in (("1", "1"), ("2", "1"), ("1", "2"))]
    assert "torch" in (tmp_path / "accuracy.md").read_text()
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"accuracy.{end}" for end in ("csv", "json", "md", "svg")
    ]
