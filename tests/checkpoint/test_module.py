"""`--module FILE.py:FUNCTION`: a module of one's own, recognised by its answers or traced as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from paraexport.checkpoint.load import Checkpoint, load_checkpoint
from paraexport.errors import CheckpointError, InputError
from paraexport.model.reference import ParaFormer
from tests.checkpoint.test_peers import TorchEncoders, randomised
from tests.checkpoint.writers import saved

ENCODERS = """
from tests.checkpoint.test_peers import TorchEncoders

def make():
    return TorchEncoders(norm_first=True, activation="gelu")
"""
WRAPPED = """
from torch import nn

class Wrapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))

    def forward(self, images):
        return self.net(images)

def make():
    return Wrapped()
"""


def load(folder: Path, code: str, weights: object, **overrides: str) -> Checkpoint:
    (folder / "own.py").write_text(code)
    path = saved(folder / "a.pt", weights)
    return load_checkpoint(path, module=f"{folder / 'own.py'}:make", overrides=overrides)


def refused(folder: Path, code: str, weights: object | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load(folder, code, weights or {"net.1.weight": torch.ones(5, 12), "net.1.bias": torch.ones(5)})
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_module_that_answers_as_a_paraformer_is_one(tmp_path: Path) -> None:
    module = randomised(TorchEncoders(norm_first=True, activation="gelu"))
    loaded = load(tmp_path, ENCODERS, {"state_dict": module.state_dict()}, image_size="8x12")
    assert isinstance(loaded.module, ParaFormer)
    assert loaded.spec is not None
    assert (loaded.spec.residual, loaded.spec.activation, loaded.spec.heads) == ("input", "gelu", 4)
    images = torch.randn(3, 3, 8, 12)
    with torch.no_grad():
        expected = module(images)
    assert (loaded.module(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("prefix", ["net.", "module.net.", "_orig_mod.net."])
def test_another_module_is_traced_as_it_is(prefix: str, tmp_path: Path) -> None:
    weights = {f"{prefix}1.weight": torch.randn(5, 12), f"{prefix}1.bias": torch.randn(5)}
    loaded = load(tmp_path, WRAPPED, weights, image_size="2", channels="3")
    assert (loaded.convention, loaded.spec, loaded.classifier.classes) == ("module", None, 5)
    (reason,) = (item.reason for item in loaded.assumptions if item.field == "module")
    assert reason.startswith("it is not recognised as a Para-Former: the 2 tensors contain no Transformer blocks")
    images = torch.randn(4, 3, 2, 2)
    expected = images.flatten(1) @ weights[f"{prefix}1.weight"].T + weights[f"{prefix}1.bias"]
    assert torch.allclose(loaded.module(images), expected, atol=1e-5)


def test_a_module_with_other_answers_than_its_weights_suggest_says_why(tmp_path: Path) -> None:
    twice = "class TwiceEncoders(TorchEncoders):\n    def forward(self, images): return 2 * super().forward(images)"
    code = f"{ENCODERS.replace('return Torch', 'return Twice')}\n{twice}\n"
    module = randomised(TorchEncoders(norm_first=True, activation="gelu"))
    loaded = load(tmp_path, code, {"state_dict": module.state_dict()}, image_size="8x12", channels="3")
    (reason,) = (item.reason for item in loaded.assumptions if item.field == "module")
    assert "its weights fit a Para-Former, but no combination of heads, activation" in reason


def test_the_record_of_a_checkpoint_says_which_images_a_module_takes(tmp_path: Path) -> None:
    content = torch.load("models/digits.pt", weights_only=True)
    (tmp_path / "own.py").write_text(
        "import torch\nfrom paraexport.model.reference import ParaFormer\nfrom paraexport.model.spec import Spec\n"
        "import msgspec\n\nclass Negative(ParaFormer):\n    def forward(self, images):\n"
        "        return -super().forward(images)\n\ndef make():\n"
        f"    return torch.nn.Sequential(Negative(msgspec.convert({content['spec']!r}, Spec)))\n"
    )
    weights = {f"0.{name}": tensor for name, tensor in content["state_dict"].items()}
    path = saved(tmp_path / "a.pt", {**content, "state_dict": weights})
    loaded = load_checkpoint(path, module=f"{tmp_path / 'own.py'}:make")
    assert (loaded.spec, loaded.classifier.image_size, loaded.classifier.channels) == (None, (32, 32), 1)
    assert loaded.preprocessing.mean == tuple(content["preprocessing"]["mean"])


def test_a_function_may_read_the_checkpoint_itself(tmp_path: Path) -> None:
    code = WRAPPED.replace("def make():", "def make(path):\n    assert path.endswith('a.pt')")
    assert load(tmp_path, code, {}, image_size="2", channels="3").convention == "module"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def other(): pass", "there is no function make (expected one of other)"),
        ("1 / 0", "it raised ZeroDivisionError: division by zero"),
        ("def make(): raise ValueError('no\\nluck')", "it raised ValueError: no;"),
        ("def make(", "it raised SyntaxError"),
        ("def make(): return 3", "the function did not return a module (expected a torch.nn.Module, got int)"),
        ("def make(a, b): pass", "make has the parameters a, b"),
        (WRAPPED, "the size of the module's images is not known"),
    ],
)
def test_what_is_wrong_with_the_file_is_told_in_a_line(code: str, message: str, tmp_path: Path) -> None:
    assert message in refused(tmp_path, code)


@pytest.mark.parametrize("name", ["own.py", ":make", "own.py:", "own.py:1", "nowhere.py:make"])
def test_a_module_that_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--module"):
        load_checkpoint(saved(tmp_path / "a.pt", {}), module=name)


def test_weights_of_another_module_are_listed_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, WRAPPED, {"net.1.weight": torch.ones(5, 7), "net.2.bias": torch.ones(5)})
    assert "1 missing: net.1.bias" in message
    assert "1 unexpected: 2.bias" in message
    assert "1 misshaped: net.1.weight expected [5, 12], got [5, 7]" in message


@pytest.mark.parametrize("given", [{"image_size": "3"}, {"image_size": "2", "channels": "1"}])
def test_images_that_the_module_does_not_take(given: dict[str, str], tmp_path: Path) -> None:
    weights = {"net.1.weight": torch.ones(5, 12), "net.1.bias": torch.ones(5)}
    with pytest.raises(InputError, match="the module does not run on images"):
        load(tmp_path, WRAPPED, weights, **{"channels": "3", **given})


def test_a_module_without_logits_is_no_classifier(tmp_path: Path) -> None:
    code = WRAPPED.replace("return self.net(images)", "return images")
    weights = {"net.1.weight": torch.ones(5, 12), "net.1.bias": torch.ones(5)}
    with pytest.raises(CheckpointError, match=r"no image classifier .*got torch.float32 \[2, 3, 2, 2\]"):
        load(tmp_path, code, weights, image_size="2", channels="3")


def test_the_two_lines_for_a_pickled_module_load_it(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5))
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(CheckpointError, match=r"holds a pickled .*--module load\.py:make") as caught:
        load_checkpoint(tmp_path / "whole.pt")
    lines = str(caught.value.remedy).split("`")[1::2]
    (tmp_path / "load.py").write_text("\n".join(lines))
    said = {"image_size": "2", "channels": "3"}
    loaded = load_checkpoint(tmp_path / "whole.pt", module=f"{tmp_path / 'load.py'}:make", overrides=said)
    images = torch.randn(4, 3, 2, 2)
    assert torch.equal(loaded.module(images), model(images))
