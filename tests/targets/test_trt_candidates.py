"""`auto` with a target that compiles: a candidate that cannot be compiled has failed, and the others remain."""

from __future__ import annotations

from pathlib import Path

import pytest

from paraexport import targets
from paraexport.errors import EngineError
from paraexport.pipeline import candidates, selection
from paraexport.pipeline.candidates import Candidate
from paraexport.pipeline.options import Options
from paraexport.timing.clock import Clock, silent
from tests.targets.engines import require_rtx, save

RIGHT = "g (float[batch,1,2,2] images) => (float[batch,1,2,2] logits) { logits = Relu(images) }"
WRONG = "g (float[batch,1,2,2] images) => (float[batch,1,2,2] logits) { logits = Bernoulli(images) }"
OPTIONS = Options(target="tensorrt-rtx", max_batch=2)


@pytest.fixture(autouse=True)
def _rtx() -> None:
    require_rtx()


def compiled(drafts: list[Candidate]) -> list[Candidate]:
    return candidates.compile_engines(drafts, OPTIONS, Clock(silent))


def test_one_that_cannot_be_compiled_is_told_of_and_another_is_chosen(tmp_path: Path) -> None:
    wrong = Candidate("tensorrt-rtx", "folded", save(tmp_path / "wrong", WRONG), ())
    right = Candidate("onnxruntime", "stacked", save(tmp_path / "right", RIGHT), ())
    drafts = compiled([wrong, right])
    chosen, tried = selection.fastest(drafts, targets.Workload(image=(1, 2, 2), max_batch=2))
    assert (chosen.target, chosen.layout, chosen.failure) == ("onnxruntime", "stacked", "")
    by_target = {one.target: one for one in tried}
    assert by_target["onnxruntime"].chosen
    assert by_target["onnxruntime"].latency_ms.keys() == {"1", "2"}
    assert not by_target["tensorrt-rtx"].chosen
    assert by_target["tensorrt-rtx"].latency_ms == {}
    assert "branches.0/logits (Bernoulli)" in by_target["tensorrt-rtx"].failure


def test_one_that_can_be_compiled_has_its_engine_beside_one_that_cannot(tmp_path: Path) -> None:
    wrong, right = save(tmp_path / "wrong", WRONG), save(tmp_path / "right", RIGHT)
    drafts = compiled([Candidate("tensorrt-rtx", "folded", wrong, ()), Candidate("tensorrt-rtx", "stacked", right, ())])
    assert [bool(one.failure) for one in drafts] == [True, False]
    assert (drafts[1].folder / "model.engine").is_file()
    assert drafts[1].engine is not None
    assert drafts[0].engine is None


def test_where_none_can_be_compiled_every_reason_is_told(tmp_path: Path) -> None:
    wrong = save(tmp_path / "wrong", WRONG)
    both = [Candidate("tensorrt-rtx", layout, wrong, ()) for layout in ("folded", "stacked")]
    with pytest.raises(EngineError, match=r"tensorrt-rtx, folded: .*Bernoulli.*tensorrt-rtx, stacked: .*Bernoulli"):
        compiled(both)


def test_where_there_is_no_choice_the_reason_is_all_that_is_told(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"^model\.onnx: TensorRT-RTX .* does not support the graph"):
        compiled([Candidate("tensorrt-rtx", "folded", save(tmp_path / "wrong", WRONG), ())])
