"""What several tests start from: bundles that are built once."""

import os
import signal
from pathlib import Path

# Several workers with several threads each would wait for each other. Set before anything imports torch.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

import paraexport
from paraexport.bundle import Bundle
from paraexport.checkpoint.native import save_checkpoint
from paraexport.model.spec import Preprocessing
from tests.bundle.forging import add_fewer_branches, copied
from tests.trace.test_trace import random_model, small_spec

ROOT = Path(__file__).parent.parent
DIGITS, TEST_IMAGES = ROOT / "models/digits.pt", ROOT / "calib/digits/test"
LABELS = ("a", "b", "c", "d", "e")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """What is started in the background of a shell ignores it, and the programs that tests start would too."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small model with random weights."""
    path = tmp_path_factory.mktemp("checkpoints") / "small.pt"
    spec = small_spec()
    images = Preprocessing(image_size=spec.image_size, channels=spec.channels, resize=spec.image_size)
    save_checkpoint(path, random_model(spec), images, LABELS)
    return path


@pytest.fixture(scope="session")
def small_bundle(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return paraexport.build(small, tmp_path_factory.mktemp("bundles") / "small.bundle", max_batch=5)


@pytest.fixture(scope="session")
def small_with_fewer(small_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small bundle with models of 1 and 2 of its 3 branches."""
    bundle = copied(small_bundle.path, tmp_path_factory.mktemp("fewer") / "small.bundle")
    add_fewer_branches(bundle, 1, 2)
    return bundle


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return paraexport.build(DIGITS, tmp_path_factory.mktemp("bundles") / "digits.bundle", data=TEST_IMAGES)
