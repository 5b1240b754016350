"""Fixtures: the command line, and a separate calibration cache, so that the user's cache stays unchanged."""

from collections.abc import Iterator

import pytest

from tests.cli.conftest import run

__all__ = ["own_cache", "run"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
