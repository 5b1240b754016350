"""Programs of `torch.export`: recognised by their answers, and refused before anything in them could run."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from paraexport.checkpoint import recognise
from paraexport.checkpoint.build import build
from paraexport.checkpoint.canonical import Canonical
from paraexport.checkpoint.hints import hints
from paraexport.checkpoint.load import load_checkpoint
from paraexport.errors import CheckpointError, InputError, SpecError
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Spec
from tests.checkpoint.test_bad_files import RunsOnLoad
from tests.checkpoint.test_peers import Released, TorchEncoders, randomised

MODEL = "models/model.json"
WEIGHTS = "data/weights/model_weights_config.json"


def exported(path: Path, module: nn.Module, images: Tensor, *, fixed: bool = False) -> Path:
    """What `torch.export.save` writes; the number of images is free unless `fixed`."""
    dynamic = None if fixed else ({0: torch.export.Dim("batch")},)
    program = torch.export.export(module, (images,), dynamic_shapes=dynamic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module = randomised(Released(2, 1, "cls"))
    return exported(tmp_path_factory.mktemp("pt2") / "good.pt2", module, torch.randn(2, 1, 8, 12))


def agrees(path: Path, module: nn.Module, images: Tensor, **overrides: str) -> ParaFormer:
    loaded = load_checkpoint(path, overrides=overrides)
    assert isinstance(loaded.module, ParaFormer)
    with torch.no_grad():
        expected = module(images)
        assert (loaded.module(images) - expected).abs().max() <= 1e-5 * expected.abs().max()
    return loaded.module


@pytest.mark.parametrize("fixed", [False, True])
def test_an_exported_paraformer_is_recognised_at_any_batch(fixed: bool, tmp_path: Path) -> None:
    module = randomised(Released(2, 2, "mean"))
    path = exported(tmp_path / "a.pt2", module, torch.randn(3, 1, 8, 12), fixed=fixed)
    spec = agrees(path, module, torch.randn(7, 1, 8, 12)).spec
    assert (spec.residual, spec.pool, spec.heads) == ("normalized", "mean", 2)


def test_what_names_leave_open_is_found_by_trying(tmp_path: Path) -> None:
    module = randomised(TorchEncoders(norm_first=True, activation="gelu"))
    path = exported(tmp_path / "a.pt2", module, torch.randn(2, 3, 8, 12))
    spec = agrees(path, module, torch.randn(5, 3, 8, 12)).spec
    assert (spec.residual, spec.activation, spec.heads) == ("input", "gelu", 4)


def test_another_network_is_traced_as_it_is(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    path = exported(tmp_path / "a.pt2", module, torch.randn(2, 3, 8, 12))
    loaded = load_checkpoint(path)
    assert (loaded.convention, loaded.spec) == ("module", None)
    assert (loaded.classifier.image_size, loaded.classifier.channels, loaded.classifier.classes) == ((8, 12), 3, 5)
    images = torch.randn(3, 3, 8, 12)
    assert torch.equal(loaded.module(images), module(images))


def test_another_network_of_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval()
    path = exported(tmp_path / "a.pt2", module, torch.randn(1, 3, 2, 2), fixed=True)
    with pytest.raises(CheckpointError, match="the program only takes batches of 1 images"):
        load_checkpoint(path)


def test_branches_of_a_network_that_has_none(tmp_path: Path) -> None:
    path = exported(tmp_path / "a.pt2", nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).eval(), torch.randn(2, 3, 2, 2))
    with pytest.raises(SpecError, match="branches cannot be left out"):
        load_checkpoint(path, branches=1)


class TwoInputs(nn.Module):
    def forward(self, images: Tensor, scale: Tensor) -> Tensor:
        return images.flatten(1) * scale


def test_a_program_of_two_inputs_is_no_classifier(tmp_path: Path) -> None:
    program = torch.export.export(TwoInputs(), (torch.randn(2, 3, 2, 2), torch.ones(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, tmp_path / "a.pt2")
    with pytest.raises(CheckpointError, match="no image classifier"):
        load_checkpoint(tmp_path / "a.pt2")


Change = Callable[[dict[str, bytes]], None]


def tampered(good: Path, folder: Path, change: Change) -> Path:
    """A copy of the archive whose entries, without the folder they are in, `change` has had its way with."""
    with zipfile.ZipFile(good) as archive:
        top = archive.namelist()[0].partition("/")[0]
        entries = {name.removeprefix(f"{top}/"): archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(folder / "bad.pt2", "w") as archive:
        for name, content in entries.items():
            archive.writestr(f"{top}/{name}", content)
    return folder / "bad.pt2"


def in_json(name: str, change: Callable[[Any], None]) -> Change:
    def apply(entries: dict[str, bytes]) -> None:
        content = json.loads(entries[name])
        change(content)
        entries[name] = json.dumps(content).encode()

    return apply


def replaced(name: str, old: str, new: str) -> Change:
    def apply(entries: dict[str, bytes]) -> None:
        assert old.encode() in entries[name]
        entries[name] = entries[name].replace(old.encode(), new.encode())

    return apply


def nodes(change: Callable[[list[Any]], None]) -> Change:
    return in_json(MODEL, lambda content: change(content["graph_module"]["graph"]["nodes"]))


def first_weight(change: Callable[[dict[str, Any]], None]) -> Change:
    return in_json(WEIGHTS, lambda content: change(next(iter(content["config"].values()))))


def test_the_tampering_itself_does_no_harm(good: Path, tmp_path: Path) -> None:
    assert load_checkpoint(tampered(good, tmp_path, lambda entries: None)).convention == "released"


SYMBOL = r"Symbol('s34', positive=True, integer=True)"
CALL = "__import__('os').system('touch {}')"
REFUSED: dict[str, tuple[Change, str]] = {
    "pickled weight": (first_weight(lambda payload: payload.update(use_pickle=True)), "pickled or custom object"),
    "weight elsewhere": (first_weight(lambda payload: payload.update(path_name="../a")), "pickled or custom object"),
    "custom payload": (
        in_json(WEIGHTS, lambda content: content["config"].update(x={"path_name": "obj_0", "use_pickle": False})),
        "pickled or custom object 'x'",
    ),
    "code as an expression": (replaced(MODEL, SYMBOL, CALL.format("MARKER")), "expression"),
    "code in a symbol": (replaced(MODEL, "Symbol('s34'", f"Symbol({CALL.format('MARKER')!r}".replace('"', "'")), ""),
    "an attribute": (replaced(MODEL, SYMBOL, "Integer.__class__"), "expression 'Integer.__class__'"),
    "a lambda": (replaced(MODEL, SYMBOL, "(lambda: 1)()"), "expression '(lambda: 1)()'"),
    "a number beyond memory": (replaced(MODEL, SYMBOL, "9**9**9**9"), "expression '9**9**9**9'"),
    "a function of builtins": (nodes(lambda graph: graph[0].update(target="builtins.eval")), "'builtins.eval'"),
    "a function of os": (nodes(lambda graph: graph[0].update(target="os.system")), "'os.system'"),
    "an operator that calls": (nodes(lambda graph: graph[0].update(target="_operator.call")), "'_operator.call'"),
    "an operator of a library": (nodes(lambda graph: graph[0].update(target="torch.ops.evil.run.default")), "evil"),
    "a file mapped": (nodes(lambda graph: graph[0].update(target="torch.ops.aten.from_file.default")), "from_file"),
    "a name with code": (
        nodes(lambda graph: graph[0]["inputs"][0].update(arg={"as_tensor": {"name": "x\nimport os"}})),
        "name 'x\\nimport os'",
    ),
    "a custom class": (
        nodes(lambda graph: graph[0]["inputs"][0].update(arg={"as_custom_obj": {"name": "x", "class_fqn": "a.B"}})),
        "a custom object",
    ),
    "a class in the arguments": (
        replaced(MODEL, r"\"type\": \"builtins.tuple\"", r"\"type\": \"subprocess.Popen\""),
        "argument type 'subprocess.Popen'",
    ),
    "a library": (
        lambda entries: entries.update({"data/aotinductor/model/a.so": b""}),
        "entry 'data/aotinductor/model/a.so'",
    ),
    "a second model": (lambda entries: entries.update({"models/other.json": b"{}"}), "entry 'models/other.json'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_a_program_that_could_run_code_is_refused(
    kind: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    change, named = REFUSED[kind]
    path = tampered(good, tmp_path, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "loading this program would run code or libraries that it contains" in message
    assert named in message
    assert "\n" not in message
    assert not Path("MARKER").exists()


def test_pickled_example_inputs_are_not_run(good: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"

    def change(entries: dict[str, bytes]) -> None:
        entries["data/sample_inputs/model.pt"] = pickle.dumps(RunsOnLoad(marker), 2)

    with pytest.raises(CheckpointError, match="example inputs"):
        load_checkpoint(tampered(good, tmp_path, change))
    assert not marker.exists()


BROKEN: dict[str, Change] = {
    "no model": lambda entries: entries.update({MODEL: b""}),
    "no json": lambda entries: entries.update({MODEL: b"{"}),
    "a list": lambda entries: entries.update({MODEL: b"[]"}),
    "nested without end": lambda entries: entries.update({MODEL: b"[" * 100_000}),
    "nested deep": lambda entries: entries.update({MODEL: b"[" * 900 + b"]" * 900}),
    "weights that are a list": lambda entries: entries.update({WEIGHTS: b"[]"}),
    "no weights": lambda entries: entries.update({WEIGHTS: b'{"config": {}}'}),
    "a weight cut short": lambda entries: entries.update({"data/weights/weight_0": b""}),
    "no weights config": lambda entries: entries.__delitem__(WEIGHTS),
    "no format": lambda entries: entries.__delitem__("archive_format"),
    "an unknown operator": nodes(lambda graph: graph[0].update(target="torch.ops.aten.does_not_exist.default")),
    "no nodes": nodes(lambda graph: graph.clear()),
    "a future schema": in_json(MODEL, lambda content: content["schema_version"].update(major=999)),
    "a weight that is not there": lambda entries: entries.__delitem__("data/weights/weight_0"),
    "no sizes": first_weight(lambda payload: payload.update(tensor_meta=[])),
    "no tensor meta": first_weight(lambda payload: payload.pop("tensor_meta")),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_program_ends_in_one_line(kind: str, good: Path, tmp_path: Path) -> None:
    path = tampered(good, tmp_path, BROKEN[kind])
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_program(share: float, good: Path, tmp_path: Path) -> None:
    whole = good.read_bytes()
    (tmp_path / "a.pt2").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(CheckpointError, match="truncated or damaged"):
        load_checkpoint(tmp_path / "a.pt2")


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_the_graph_of_a_program_shows_heads_eps_and_activation(activation: Any, tmp_path: Path) -> None:
    module = randomised(TorchEncoders(norm_first=True, activation=activation))
    module.get_submodule("norm").eps = 1e-3  # type: ignore[assignment]
    exported_module = torch.export.export(module, (torch.randn(2, 3, 8, 12),)).module()
    shown = hints(exported_module, inner=16)
    assert 4 in shown.heads[:2]
    assert shown.epsilons == (1e-5, 1e-3)
    assert shown.activations == (activation,)


def test_few_candidates_are_tried_where_the_graph_shows_most(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Spec] = []

    def counted(canonical: Canonical, spec: Spec) -> ParaFormer:
        built.append(spec)
        return build(canonical, spec)

    monkeypatch.setattr(recognise, "build", counted)
    assert load_checkpoint(good).convention == "released"
    # residual, pool and norm are left: 3 x 3 x 2
    assert 1 <= len(built) <= 18


class Huge(nn.Module):
    """A few bytes of weights, and 360 GB on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(12, 5)

    def forward(self, images: Tensor) -> Tensor:
        numbers = torch.arange(300_000.0)
        return self.head(images.flatten(1)) + (numbers[:, None] * numbers).sum()


def test_a_program_that_would_fill_the_memory_is_not_run(tmp_path: Path) -> None:
    path = exported(tmp_path / "a.pt2", Huge().eval(), torch.randn(2, 3, 2, 2))
    with pytest.raises(CheckpointError, match=r"makes a tensor of shape \[300000, 300000\]"):
        load_checkpoint(path)


def test_a_program_without_weights_is_traced_as_it_is(tmp_path: Path) -> None:
    path = exported(tmp_path / "a.pt2", nn.Flatten().eval(), torch.randn(2, 1, 2, 2))
    loaded = load_checkpoint(path)
    assert (loaded.convention, loaded.classifier.classes) == ("module", 4)


def test_a_program_holds_no_copies_to_choose_from(good: Path) -> None:
    with pytest.raises(InputError, match="--weights ema: there is nothing to choose"):
        load_checkpoint(good, weights="ema")
