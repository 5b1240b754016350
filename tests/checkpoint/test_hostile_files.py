"""Small files that promise much: refused in one line, before they fill the memory or take long."""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import tracemalloc
import warnings
import zipfile
from pathlib import Path

import pytest
import safetensors.torch
import torch

from paraexport.checkpoint.load import load_checkpoint
from paraexport.errors import CheckpointError
from tests.checkpoint.test_bad_files import refused
from tests.checkpoint.test_wrappers import WEIGHTS, answers_as, released
from tests.checkpoint.writers import saved

GIGABYTES = 100 * 10**9


def torch_zip(path: Path, content: bytes, **more: bytes) -> Path:
    """A zip as torch writes it, with this pickle in it."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", "3\n")
        for name, data in more.items():
            archive.writestr(f"archive/data/{name}", data)
    return path


def called(module: str, name: str, *arguments: bytes) -> bytes:
    """The pickle of a call."""
    return f"c{module}\n{name}\n(".encode() + b"".join(arguments) + b"tR"


def number(value: int) -> bytes:
    encoded = pickle.encode_long(value)
    return b"\x8a" + bytes([len(encoded)]) + encoded


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def longer_and_longer() -> bytes:
    content = text("a" * 1000)
    for _ in range(40):
        content = called("_codecs", "encode", content, text("hex"))
    return content


CALLS = {
    "bytearray of a size": called("__builtin__", "bytearray", number(GIGABYTES)),
    "an encoding that doubles": longer_and_longer(),
    "a tensor of a size": called("torch", "FloatTensor", number(GIGABYTES)),
    "a storage of a size": called("torch.storage", "UntypedStorage", number(GIGABYTES)),
    "an array of a size": called("numpy", "ndarray", number(GIGABYTES)),
    "an empty array of a size": called(
        "numpy.core.multiarray", "_reconstruct", b"cnumpy\nndarray\n", number(GIGABYTES) + b"\x85", text("b")
    ),
    "a scalar without a value": called(
        "numpy.core.multiarray", "scalar", called("numpy", "dtype", text("V2000000000"))
    ),
}


@pytest.mark.parametrize("kind", CALLS)
def test_a_call_that_could_fill_the_memory_is_refused(kind: str, tmp_path: Path) -> None:
    path = torch_zip(tmp_path / "a.pt", b"\x80\x02" + CALLS[kind] + b".")
    tracemalloc.start()
    message = refused(path)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()
    assert "could take too much memory" in message


@pytest.mark.parametrize("legacy", [False, True])
def test_a_view_that_repeats_one_number_is_refused(legacy: bool, tmp_path: Path) -> None:
    content = {**released(), "mlp_head.1.weight": torch.ones(1).expand(10**5, 10**5)}
    assert "unpacked, it is far larger than the file" in refused(saved(tmp_path / "a.pt", content, legacy=legacy))


def test_what_is_tied_in_many_places_counts_once(tmp_path: Path) -> None:
    shared = torch.randn(2**18)
    more = {f"optimizer.{index}": shared for index in range(100)}  # 100 MB if each were counted
    loaded = load_checkpoint(saved(tmp_path / "a.pt", {"model": released(), "optimizer": {"state": more}}))
    assert answers_as(loaded, WEIGHTS)


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (pickle.dumps({}, 2), {"0": bytes(80 * 2**20)}),
        (b"\x80\x02" + b"N0" * (3 * 2**20) + b".", {}),
    ],
)
def test_a_packed_entry_is_not_unpacked(content: bytes, more: dict[str, bytes], tmp_path: Path) -> None:
    message = refused(torch_zip(tmp_path / "a.pt", content, **more))
    assert "far larger than the file" in message or "its pickle is larger than the file" in message


def test_configs_and_dicts_that_hold_each_other_many_times_over(tmp_path: Path) -> None:
    words: dict[str, object] = {}
    nested: dict[str, object] = {"weight": torch.ones(2, 2)}
    for _ in range(12):
        words = dict.fromkeys(("config", "args", "hparams", "model", "data"), words)
        nested = {f"part{index}": nested for index in range(40)}
    assert "too large or too deep" in refused(saved(tmp_path / "a.pt", {"model": released(), "config": words}))
    assert "several state dicts" in refused(saved(tmp_path / "b.pt", nested))


def test_lists_in_lists_without_end(tmp_path: Path) -> None:
    deep = b"]" * 50_000 + b"a" * 49_999
    assert "got list" in refused(torch_zip(tmp_path / "a.pt", b"\x80\x02" + deep + b"."))
    config = b"\x80\x02}" + text("config") + deep + b"s."
    assert "too large or too deep" in refused(torch_zip(tmp_path / "b.pt", config))


def test_methods_that_a_pickle_sets_on_its_objects_are_not_called(tmp_path: Path) -> None:
    shadows = b"}(" + b"".join(text(name) + number(5) for name in ("items", "get", "keys")) + b"ub"
    path = torch_zip(tmp_path / "a.pt", b"\x80\x02" + called("collections", "OrderedDict") + shadows + b".")
    assert "no named tensors" in refused(path)


def legacy_keys(data: bytes) -> tuple[int, int]:
    """Where the list of storages is in a file of the format before zip: its start and its end."""
    stream = io.BytesIO(data)
    for _ in range(4):
        list(pickletools.genops(stream))
    start = stream.tell()
    list(pickletools.genops(stream))
    return start, stream.tell()


def test_a_storage_that_is_not_read_would_be_whatever_the_memory_held(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", released(), legacy=True)
    data = path.read_bytes()
    start, end = legacy_keys(data)
    keys = pickle.loads(data[start:end])
    path.write_bytes(data[:start] + pickle.dumps(keys[:-1], 2) + data[end:])
    assert torch.load(path, weights_only=True)  # torch says nothing
    assert "its list of storages does not match its tensors" in refused(path)


@pytest.mark.parametrize("name", [b"archive/d\xff\xfea/0", b"archive/data/\xc3"])
def test_a_name_in_a_zip_that_is_flagged_utf8_and_is_not(name: bytes, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", released())
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    data[entry + 8 : entry + 10] = b"\x00\x08"
    data[entry + 46 : entry + 46 + len(name)] = name
    path.write_bytes(data)
    assert "the file is truncated or damaged" in refused(path)


def test_a_short_struct_in_a_pickle(tmp_path: Path) -> None:
    for content in (b"\x80\x02J\x01", b"\x80\x02X\x05\x00", b"\x80\x02G\x00", b"\x80\x02r\x00", b"\x80"):
        assert "the file is truncated or damaged" in refused(torch_zip(tmp_path / "a.pt", content))


def test_an_assertion_in_the_legacy_reader_of_torch(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"head.weight": torch.ones(2, 2)}, legacy=True)
    data = path.read_bytes()
    start, end = legacy_keys(data)
    path.write_bytes(data[:start] + pickle.dumps(["1", "2"], 2) + data[end:])
    with pytest.raises(AssertionError):
        torch.load(path, weights_only=True)
    assert "the file is truncated or damaged" in refused(path)


def test_a_tensor_of_safetensors_has_the_bytes_that_its_shape_says(tmp_path: Path) -> None:
    data = safetensors.torch.save({"head.weight": torch.ones(2, 2)})
    path = tmp_path / "a.safetensors"
    header = data[8:].replace(b'"shape":[2,2]', b'"shape":[9,9]')
    path.write_bytes(data[:8] + header)
    assert "the safetensors file is damaged" in refused(path)


def test_old_checkpoints_with_few_sizes_of_their_own_are_still_read(tmp_path: Path) -> None:
    """The bounds refuse no file that torch writes: halves, bools, bytes, scalars of NumPy and nested state."""
    content = {
        "model": {name: tensor.half() for name, tensor in released().items()},
        "mask": torch.ones(10_000, dtype=torch.bool),
        "raw": bytearray(b"\x00\xffabc"),
        "bytes": b"\x00\xff",
        "shape": torch.Size([3, 4]),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for legacy in (False, True):
            assert load_checkpoint(saved(tmp_path / "a.pt", content, legacy=legacy)).convention == "released"


def test_a_missing_file_is_no_damaged_one(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("odd", [torch.ones(2, 2).to_sparse(), torch.ones(3, device="meta")])
def test_odd_tensors_in_a_config_are_no_words(odd: torch.Tensor, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pt", {"model": released(), "config": {"mean": odd, "heads": 1}})
    assert answers_as(load_checkpoint(path), WEIGHTS)
