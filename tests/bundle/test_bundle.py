"""Bundles: whole or not at all, and every kind of damage is named."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
import torch

import paraexport
from paraexport import targets
from paraexport.bundle import FORMAT, MANIFEST, check_replaceable, read_bundle, report, staging, write_manifest
from paraexport.bundle.records import Manifest, Source
from paraexport.errors import BundleError, DataError, EngineError, MissingError, OutputError
from paraexport.findings.graphs import TensorInfo
from paraexport.model.reference import ParaFormer
from paraexport.model.spec import Preprocessing
from paraexport.targets.folder import Folder
from paraexport.targets.runtime import Runtime
from paraexport.trace.trace import trace
from tests.trace.test_trace import random_model, small_spec


def runtime_of(target: str, precision: str = "fp32") -> Runtime:
    """How `target`, which needs no engine, opens a model."""
    workload = targets.Workload(image=(1, 8, 12), max_batch=3, precision=precision)
    return targets.get(target).runtime(Folder(Path()), workload)


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "format": FORMAT, "digest": "", "paraexport": "0.1.0", "key": "0" * 64,
        "source": Source("a.pt", "1" * 64, "paraformer", {}),
        "target": "onnxruntime", "runtime": runtime_of("onnxruntime"),
        "precision": "fp32", "layout": "branches", "rewrites": (), "max_batch": 3,
        "inputs": (TensorInfo("images", "float32", ("batch", 1, 8, 12)),),
        "outputs": (TensorInfo("logits", "float32", ("batch", 5)),),
        "preprocessing": Preprocessing(image_size=(8, 12), channels=1, resize=(8, 12)),
        "labels": ("a", "b", "c", "d", "e"), "spec": small_spec(), "assumptions": (), "evidence": "none", "checks": (),
        "versions": {}, "files": {},
    }  # fmt: skip
    return Manifest(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ParaFormer]:
    model = random_model(small_spec())
    path = tmp_path_factory.mktemp("bundles") / "a.bundle"
    with staging(path) as folder:
        trace(model, model.spec, folder / "model.onnx")
        write_manifest(folder, manifest())
    return path, model


@pytest.fixture
def copy(made: tuple[Path, ParaFormer], tmp_path: Path) -> Path:
    target = tmp_path / "copy.bundle"
    target.mkdir()
    for file in made[0].iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_the_engine_answers_as_pytorch_does_beyond_its_batch_limit(made: tuple[Path, ParaFormer]) -> None:
    path, model = made
    engine = paraexport.load(path, threads=1)
    images = torch.randn(7, 1, 8, 12)
    with torch.no_grad():
        expected = model(images).numpy()
    assert np.abs(engine(images.numpy()) - expected).max() <= 1e-5 * np.abs(expected).max()
    assert engine(images.numpy()[:0]).shape == (0, 5)


@pytest.mark.parametrize(
    "images", [np.zeros((1, 1, 12, 8), np.float32), np.zeros((1, 1, 8, 12)), np.zeros((1, 8, 12), np.float32), [[0.0]]]
)
def test_a_wrong_input_says_what_is_expected(made: tuple[Path, ParaFormer], images: object) -> None:
    engine = paraexport.load(made[0], threads=1)
    with pytest.raises(DataError, match=r"expected a float32 array \[N, 1, 8, 12\], got"):
        engine(images)  # type: ignore[arg-type]


GRAPH = """<ir_version: 10, opset_import: ["" : 20]>
    g (float[batch, 1, 8, 12] images) => (float[batch, 5] logits)
    <float[4] factors = {{{factors}}}, int64[5] first = {{0, 1, 2, 3, 4}}> {{
        sizes = Shape (images)
        numbers = Cast <to = 1> (sizes)
        products = Mul (numbers, factors)
        shape = Cast <to = 7> (products)
        grown = {operator} (images, shape)
        flat = Flatten (grown)
        logits = Gather <axis = 1> (flat, first)
    }}
"""


@pytest.mark.parametrize(
    ("operator", "factors", "kind", "message"),
    [
        ("Reshape", "7, 1, 1, 1", EngineError, r"copy\.bundle: onnxruntime failed on a batch of 1 \(got .*Reshape"),
        ("Expand", "1000000000, 1000, 1, 1", MissingError, r"copy\.bundle: there is not enough memory \(got .*"),
    ],
)
def test_what_a_runtime_raises_is_told_as_an_error_of_ours(
    operator: str, factors: str, kind: type[Exception], message: str, copy: Path
) -> None:
    onnx.save(onnx.parser.parse_model(GRAPH.format(operator=operator, factors=factors)), copy / "model.onnx")
    write_manifest(copy, manifest())
    with pytest.raises(kind, match=message):
        paraexport.load(copy)(np.zeros((1, 1, 8, 12), np.float32))


def test_the_digest_is_the_sha256_of_the_manifest_with_zeros_in_its_place(made: tuple[Path, ParaFormer]) -> None:
    content = (made[0] / MANIFEST).read_text(encoding="utf-8")
    digest = json.loads(content)["digest"]
    assert hashlib.sha256(content.replace(digest, "0" * 64).encode()).hexdigest() == digest


def flip(name: str) -> Callable[[Path], None]:
    def damage(bundle: Path) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[len(content) // 2] ^= 1
        (bundle / name).write_bytes(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip("model.onnx"), "a file of the bundle was changed"),
        (flip(MANIFEST), "manifest"),
        (lambda bundle: (bundle / "model.onnx").unlink(), "a file of the bundle is missing"),
        (lambda bundle: (bundle / MANIFEST).unlink(), "not a bundle"),
        (lambda bundle: (bundle / MANIFEST).write_text("{"), "not JSON"),
        (lambda bundle: (bundle / MANIFEST).write_text("[]"), "not a JSON object"),
        (lambda bundle: (bundle / MANIFEST).write_text('{"format": 99}'), "newer format .*update paraexport"),
        (lambda bundle: (bundle / MANIFEST).write_text("{}"), "malformed"),
    ],
)
def test_damage_is_named_and_nothing_runs(copy: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(copy)
    with pytest.raises(BundleError, match=message) as caught:
        paraexport.load(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_a_path_that_leads_outside_is_refused(copy: Path, name: str) -> None:
    (copy.parent / "outside").write_text("x")
    raw = json.loads((copy / MANIFEST).read_text())
    raw["files"][name] = {"sha256": "0" * 64, "size_bytes": 1}
    digest = raw["digest"]
    blank = json.dumps(raw).replace(digest, "0" * 64, 1)
    new = hashlib.sha256(blank.encode()).hexdigest()
    (copy / MANIFEST).write_text(json.dumps(raw).replace(digest, new, 1))
    with pytest.raises(BundleError, match="outside the bundle"):
        read_bundle(copy)


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with staging(tmp_path / "out.bundle") as folder:
            (folder / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No space left on device"), staging(tmp_path / "out.bundle"):
        Path("/dev/full").write_bytes(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_forced(copy: Path, tmp_path: Path) -> None:
    other = tmp_path / "photos"
    other.mkdir()
    with pytest.raises(OutputError, match="exists and is not a bundle"):
        check_replaceable(other, force=True)
    with pytest.raises(OutputError, match="--force"):
        check_replaceable(copy, force=False)
    check_replaceable(copy, force=True)
    with staging(copy, force=True) as folder:
        (folder / "new").write_text("x")
    assert [file.name for file in copy.iterdir()] == ["new"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.bundle", "photos"]


def test_force_replaces_no_folder_that_merely_has_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "my web app"}')
    with pytest.raises(OutputError, match="exists and is not a bundle"):
        check_replaceable(tmp_path, force=True)


def test_force_deletes_no_file_that_is_not_the_bundles_own(copy: Path) -> None:
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"do not belong to it: notes\.txt"):
        check_replaceable(copy, force=True)


def test_force_replaces_no_link(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(copy)
    with pytest.raises(OutputError, match="symbolic link"):
        check_replaceable(tmp_path / "link", force=True)


def test_what_comes_to_the_output_meanwhile_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "a.bundle"

    def build() -> None:
        with staging(output) as folder:
            (folder / "new").write_text("x")
            output.mkdir()
            (output / "mine").write_text("mine")

    with pytest.raises(OutputError, match="exists and is not a bundle"):
        build()
    assert [file.name for file in output.iterdir()] == ["mine"]
    assert [file.name for file in tmp_path.iterdir()] == ["a.bundle"]


def test_of_two_builds_at_once_the_second_says_that_the_first_was_there(copy: Path) -> None:
    with pytest.raises(OutputError, match="another build has written a bundle there meanwhile"), staging(copy):
        pass


def test_a_failure_takes_the_folders_away_that_it_made(tmp_path: Path) -> None:
    def fail() -> None:
        with staging(tmp_path / "a" / "b" / "c.bundle") as folder:
            assert folder.is_relative_to(tmp_path / "a" / "b")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": ()}, "expected one input"),
        ({"labels": ("a", "b")}, "2 labels for 5 classes"),
        ({"max_batch": 0}, "max_batch is 0"),
        ({"preprocessing": Preprocessing(image_size=(8, 8), channels=1, resize=(8, 8))}, "another size"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(copy: Path, changes: dict[str, object], message: str) -> None:
    write_manifest(copy, manifest(**changes))
    with pytest.raises(BundleError, match=message):
        read_bundle(copy)


def test_a_bundle_without_its_model_or_for_an_unknown_target_does_not_open(copy: Path) -> None:
    write_manifest(copy, manifest(target="tpu"))
    with pytest.raises(MissingError, match=r"unknown target .*tpu"):
        paraexport.load(copy)
    (copy / "model.onnx").write_bytes(b"no model")
    write_manifest(copy, manifest())
    with pytest.raises(BundleError, match="onnxruntime cannot open the model"):
        paraexport.load(copy)
    (copy / "model.onnx").unlink()
    write_manifest(copy, manifest())
    with pytest.raises(BundleError, match=r"model\.onnx is not listed"):
        read_bundle(copy)


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff", b"[]", None])
def test_a_report_of_another_form_is_no_bug_of_ours(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"report\.json: (the report )?cannot be read .*; copy the bundle again"):
        report.read(Folder(tmp_path))
