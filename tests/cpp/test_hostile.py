"""Every damaged or hostile bundle that Python refuses is refused by the C library, with the same status and words."""

from __future__ import annotations

import json
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import paraexport
from paraexport.bundle import MANIFEST, Bundle, read_bundle
from paraexport.bundle.swap import exchange
from paraexport.errors import BundleError, ParaexportError
from paraexport.pipeline import validate
from tests.bundle import test_bundle, test_fewer_branches, test_forged, test_opened
from tests.bundle.forging import Change, copied, forge, sealed, write
from tests.bundle.test_fewer_branches import LOWERING
from tests.bundle.test_forged import for_target, put
from tests.cpp.library import FailedError, Library
from tests.faults.json_damage import damage_json

OTHER_WORDS = re.compile(r"surrogate|nan at|inf at")
"""Python's JSON parser accepts these, and a later check refuses them. The parser of C++ refuses them itself."""


def cases(test: Any, name: str | None = None) -> list[Any]:
    """The parameters of a test of Python, so that both readers always get the same."""
    marks = [mark for mark in test.pytestmark if mark.name == "parametrize"]
    chosen = marks if name is None else [mark for mark in marks if name in mark.args[0]]
    return list(chosen[0].args[1])


@pytest.fixture
def forged(small_bundle: Bundle, tmp_path: Path) -> Path:
    return copied(small_bundle.path, tmp_path / "a.bundle")


def python_error(path: Path | str) -> ParaexportError:
    with pytest.raises(ParaexportError) as caught:
        paraexport.load(path)
    return caught.value


def require_refused(library: Library, path: Path | str, message: str) -> None:
    expected = python_error(path)
    with pytest.raises(FailedError) as caught:
        library.open(path)
    assert caught.value.status == expected.exit_code, str(caught.value)
    if OTHER_WORDS.search(message):
        assert re.search(r"the manifest is not JSON|unknown", str(caught.value))
    else:
        assert re.search(message, str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("path", "value", "message"), test_forged.REFUSED, ids=str)
def test_a_manifest_that_cannot_be(path: str, value: object, message: str, library: Library, forged: Path) -> None:
    if path == "files.model.onnx":
        forge(forged, lambda raw: raw["files"].update({"model.onnx": value}))
    else:
        forge(forged, put(path, value))
    require_refused(library, forged, message)


@pytest.mark.parametrize(("change", "message"), cases(test_fewer_branches.test_what_cannot_be_is_refused))
def test_models_with_fewer_branches_that_cannot_be(
    change: Change, message: str, library: Library, small_with_fewer: Path, tmp_path: Path
) -> None:
    bundle = copied(small_with_fewer, tmp_path / "a.bundle")
    forge(bundle, change)
    require_refused(library, bundle, message)


@pytest.mark.parametrize(
    ("values", "message"), cases(test_fewer_branches.test_golden_logits_of_fewer_branches_must_fit)
)
def test_golden_logits_of_fewer_branches_of_another_form(
    values: Any, message: str, library: Library, small_with_fewer: Path, tmp_path: Path
) -> None:
    bundle = copied(small_with_fewer, tmp_path / "a.bundle")
    test_fewer_branches.replace_first(bundle, values)
    with library.open(bundle, branches=1) as ours, pytest.raises(FailedError, match=message) as caught:
        ours.check()
    assert caught.value.status == BundleError.exit_code


@pytest.mark.parametrize(
    ("change", "message"), cases(test_forged.test_a_model_that_the_manifest_does_not_describe_does_not_open, "change")
)
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_another_model(change: Change, message: str, target: str, library: Library, forged: Path) -> None:
    forge(forged, lambda raw: (change(raw), for_target(target)(raw)))
    require_refused(library, forged, "the model does not match the manifest .*" + message)


@pytest.mark.parametrize(
    ("change", "message"), cases(test_forged.test_a_runtime_block_that_cannot_be_followed_is_refused)
)
def test_a_runtime_block_that_cannot_be_followed(change: Change, message: str, library: Library, forged: Path) -> None:
    forge(forged, change)
    require_refused(library, forged, message)


def test_a_library_that_is_too_old(library: Library, forged: Path) -> None:
    forge(forged, put("runtime.minimum_version", "99.1"))
    require_refused(library, forged, r"too old for this bundle .expected 99\.1 or later.*pip install")


def test_format_1_does_not_say_how_it_is_opened(library: Library, forged: Path) -> None:
    forge(forged, lambda raw: (raw.pop("runtime"), put("format", 1)(raw)))
    library.verify(forged)
    with pytest.raises(FailedError, match="format 1 does not record how the model is opened"):
        library.open(forged)


@pytest.mark.parametrize(("tensors", "message"), cases(test_forged.test_golden_data_of_another_form_is_refused))
def test_golden_data_of_another_form(tensors: dict[str, Any], message: str, library: Library, forged: Path) -> None:
    save_file(tensors, forged / "golden.safetensors")
    forge(forged)
    with pytest.raises(ParaexportError, match=message) as expected:
        validate.validate(forged)
    with library.open(forged) as ours, pytest.raises(FailedError, match=message) as caught:
        ours.check()
    assert caught.value.status == expected.value.exit_code


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["images", "logits"])
def test_golden_data_that_is_not_finite(name: str, value: float, library: Library, forged: Path) -> None:
    tensors = {"images": np.zeros((2, 1, 8, 12), np.float32), "logits": np.zeros((2, 5), np.float32)}
    tensors[name].flat[3] = value
    save_file(tensors, forged / "golden.safetensors")
    forge(forged)
    with library.open(forged) as ours, pytest.raises(FailedError, match="numbers that are not finite"):
        ours.check()


def test_golden_data_that_differs_fails_the_check(library: Library, forged: Path) -> None:
    tensors: dict[str, Any] = {
        "images": np.ones((2, 1, 8, 12), np.float32), "logits": np.ones((2, 5), np.float32)
    }  # fmt: skip
    save_file(tensors, forged / "golden.safetensors")
    forge(forged)
    with (
        library.open(forged) as ours,
        pytest.raises(FailedError, match=r"check failed: parity .expected at most 1e-05"),
    ):
        ours.check()
    pixels = np.zeros((8, 12, 1), np.uint8)
    wrong = {"pixels.0": pixels, "prepared.0": np.ones((1, 8, 12), np.float32), "logits.0": np.ones(5, np.float32)}
    save_file(tensors | wrong, forged / "golden.safetensors")
    forge(forged)
    with library.open(forged) as ours, pytest.raises(FailedError, match="preprocessing gives other values") as caught:
        ours.check()
    assert caught.value.status == 1


def test_a_golden_file_that_is_not_listed(library: Library, forged: Path) -> None:
    forge(forged, lambda raw: raw["files"].pop("golden.safetensors"))
    with library.open(forged) as ours, pytest.raises(FailedError, match="the manifest does not list this file"):
        ours.check()


@pytest.mark.parametrize(("make", "message"), test_opened.ODD)
@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden.safetensors"])
def test_an_odd_file(name: str, make: Callable[[Path], None], message: str, library: Library, forged: Path) -> None:
    (forged / name).unlink()
    make(forged / name)
    require_refused(library, forged, message)


def test_a_huge_manifest(library: Library, forged: Path) -> None:
    with (forged / MANIFEST).open("wb") as file:
        file.truncate(1 << 40)
    require_refused(library, forged, r"manifest\.json: too large .expected at most 67108864 bytes")


@pytest.mark.parametrize("path", ["x" * 300, "/dev/null", "/dev/null/x", "", "/nowhere", "."])
def test_a_path_that_is_no_bundle(path: str, library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_refused(library, path, "not a bundle|cannot be read")


def test_links_inside_the_bundle_are_followed(library: Library, forged: Path, tmp_path: Path) -> None:
    (forged / "..data").mkdir()
    for file in [file for file in forged.iterdir() if file.is_file()]:
        file.rename(forged / "..data" / file.name)
        file.symlink_to(f"..data/{file.name}")
    library.open(forged).close()
    (tmp_path / "current").symlink_to("a.bundle")
    library.open(tmp_path / "current").close()


@pytest.mark.parametrize(("damage", "message"), cases(test_bundle.test_damage_is_named_and_nothing_runs))
def test_damage(damage: Callable[[Path], None], message: str, library: Library, forged: Path) -> None:
    damage(forged)
    require_refused(library, forged, message)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside", "a\\b", "a//b", "./a", ""])
def test_a_path_that_leads_outside(name: str, library: Library, forged: Path) -> None:
    (forged.parent / "outside").write_text("x")
    forge(forged, lambda raw: raw["files"].update({name: {"sha256": "0" * 64, "size_bytes": 1}}))
    require_refused(library, forged, "outside the bundle")


def test_no_model(library: Library, forged: Path) -> None:
    (forged / "model.onnx").write_bytes(b"no model")
    forge(forged)
    require_refused(library, forged, "onnxruntime cannot open the model")
    forge(forged, for_target("openvino"))
    require_refused(library, forged, "openvino cannot open the model")
    forge(forged, lambda raw: raw["files"].pop("model.onnx"))
    require_refused(library, forged, r"model\.onnx is not listed")


@pytest.mark.parametrize(
    "target", ["onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-tensorrt-rtx", "tensorrt", "tensorrt-rtx"]
)
def test_a_bundle_for_a_gpu_is_refused_with_a_remedy(target: str, library: Library, forged: Path) -> None:
    forge(forged, put("target", target))
    with pytest.raises(FailedError) as caught:
        library.open(forged)
    assert caught.value.status in (2, 3)
    assert ";" in str(caught.value)


@pytest.mark.parametrize("case", cases(test_bundle.test_what_a_runtime_raises_is_told_as_an_error_of_ours))
def test_what_a_runtime_refuses_to_run(
    case: tuple[str, str, type[ParaexportError], str], library: Library, forged: Path
) -> None:
    import onnx.parser

    operator, factors, kind, message = case
    model = onnx.parser.parse_model(test_bundle.GRAPH.format(operator=operator, factors=factors))
    onnx.save(model, forged / "model.onnx")
    forge(forged)
    with library.open(forged) as ours, pytest.raises(FailedError, match=message.replace("copy", "a")) as caught:
        ours(np.zeros((1, 1, 8, 12), np.float32))
    assert caught.value.status == kind.exit_code


def test_a_repeated_field_counts_once_as_in_python(library: Library, forged: Path) -> None:
    text = (forged / MANIFEST).read_text()
    (forged / MANIFEST).write_bytes(sealed(text.replace('"max_batch": 5', '"max_batch": 0, "max_batch": 4').encode()))
    assert paraexport.load(forged).manifest.max_batch == 4
    with library.open(forged) as ours:
        assert ours.info()["max_batch"] == 4


DAMAGED = 600


def test_drawn_damage_gets_the_verdict_of_python(library: Library, small_with_fewer: Path, tmp_path: Path) -> None:
    """Structural damage of the manifest, with a digest that fits: both readers accept it, or both refuse it."""
    forged = copied(small_with_fewer, tmp_path / "a.bundle")
    content = (forged / MANIFEST).read_bytes()
    words = sorted({match.decode() for match in re.findall(rb'"([a-z_0-9]+)":', content)})
    damage = damage_json(words)
    pick = Random(0)
    refused, accepted = 0, 0
    for _ in range(DAMAGED):
        broken = sealed(damage(content, pick))
        (forged / MANIFEST).write_bytes(broken)
        expected = status_of(lambda: read_bundle(forged))
        assert status_of_c(library, forged) == expected, broken
        refused, accepted = refused + (expected != 0), accepted + (expected == 0)
    assert refused > DAMAGED / 2
    assert accepted


def status_of(act: Callable[[], object]) -> int:
    try:
        act()
    except ParaexportError as error:
        return error.exit_code
    return 0


def status_of_c(library: Library, path: Path) -> int:
    try:
        library.verify(path)
    except FailedError as error:
        return error.status
    return 0


@pytest.mark.parametrize("removed", [False, True])
def test_every_field_has_the_type_of_python(
    removed: bool, library: Library, small_bundle: Bundle, forged: Path
) -> None:
    """Remove each field, or give it each type of JSON. This compares the table of C++ with the dataclasses."""
    manifest = json.loads((small_bundle.path / MANIFEST).read_text())
    manifest["lowering"] = LOWERING
    manifest["precision"] = "int8"
    fewer = {"branches": 2, "file": "model.first2.onnx", "checks": manifest["checks"][:1], "lowering": {**LOWERING}}
    manifest["fewer_branches"] = [fewer]
    manifest["files"]["model.first2.onnx"] = manifest["files"]["model.onnx"]
    shutil.copy(forged / "model.onnx", forged / "model.first2.onnx")
    manifest["candidates"] = [{"target": "a", "layout": "b", "latency_ms": {"1": 0.5}, "chosen": True, "failure": ""}]
    manifest["rewrites"] = [{"name": "a", "times": 1, "refusals": ["x"]}]
    manifest["assumptions"] = [{"field": "a", "value": "b", "reason": "c"}]
    write(forged, json.dumps(manifest))
    read_bundle(forged)
    library.verify(forged)
    places = [*walk(manifest)]
    assert len(places) > 100
    values: tuple[object, ...] = (None,) if removed else (None, True, 7, 0.5, "odd", [], {})
    for steps in places:
        for value in values:
            raw = json.loads(json.dumps(manifest))
            place = raw
            for step in steps[:-1]:
                place = place[step]
            if removed:
                place.pop(steps[-1])
            else:
                place[steps[-1]] = value
            write(forged, json.dumps(raw))
            expected = status_of(lambda: read_bundle(forged))
            assert status_of_c(library, forged) == expected, (steps, value, library.last_error())


def walk(value: Any, path: tuple[Any, ...] = ()) -> Any:
    """Every place in a value, but only the first item of each list."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from walk(item, (*path, key))


def test_a_bundle_that_is_replaced_again_and_again_is_never_half_read(
    library: Library, small_bundle: Bundle, tmp_path: Path
) -> None:
    """Another process swaps two bundles while this one opens them."""
    place, other = copied(small_bundle.path, tmp_path / "a.bundle"), tmp_path / "b.bundle"
    copied(small_bundle.path, other)
    test_opened.other_weights(other)
    images = np.random.default_rng(0).standard_normal((2, 1, 8, 12), np.float32)
    answers = []
    for path in (place, other):
        with library.open(path) as ours:
            answers.append(ours(images))
    stop = threading.Event()

    def swapping() -> None:
        while not stop.is_set() and exchange(place, other):
            pass

    thread = threading.Thread(target=swapping)
    thread.start()
    seen = set()
    try:
        for _ in range(60):
            with library.open(place) as ours:
                got = ours(images)
            (index,) = [index for index, answer in enumerate(answers) if np.array_equal(got, answer)]
            seen.add(index)
    finally:
        stop.set()
        thread.join()
    assert seen == {0, 1}


def test_no_descriptor_stays_open(library: Library, forged: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux lists the descriptors of a process")
    library.open(forged).close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        library.open(forged).close()
    shutil.rmtree(forged)
    for _ in range(5):
        with pytest.raises(FailedError):
            library.open(forged)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
