"""One trained model in every layout, built once."""

from __future__ import annotations

import pytest

import paraexport
from paraexport.bundle import Bundle
from paraexport.rewrite import LAYOUTS
from tests.conftest import DIGITS, TEST_IMAGES

Bundles = dict[str, Bundle]


@pytest.fixture(scope="session")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    folder = tmp_path_factory.mktemp("layouts")
    return {
        layout: paraexport.build(DIGITS, folder / f"{layout}.bundle", layout=layout, calib=TEST_IMAGES, max_batch=8)
        for layout in LAYOUTS
    }
