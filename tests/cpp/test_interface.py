"""The C interface under strain: closed engines, many threads, old structs, and the unit tests of C++."""

from __future__ import annotations

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import paraexport
from paraexport.bundle import Bundle
from tests.cpp import building
from tests.cpp.library import BAD_INPUT, Answer, FailedError, Info, Library

THREADS, CALLS = 64, 20


def test_the_unit_tests_of_cpp_pass(cpp_build: Path) -> None:
    building.must(building.run("ctest", "--test-dir", cpp_build, "--output-on-failure"))


def test_64_threads_get_the_right_answers(library: Library, int8_bundle: Bundle) -> None:
    engine = paraexport.load(int8_bundle.path, threads=1)
    batches = [np.random.default_rng(n).standard_normal((1 + n % 3, 1, 32, 32), np.float32) for n in range(THREADS)]
    expected = [engine(batch) for batch in batches]
    start = threading.Barrier(THREADS)

    def ask(number: int) -> int:
        start.wait()
        for _ in range(CALLS):
            np.testing.assert_array_equal(ours(batches[number]), expected[number])
        return CALLS

    with library.open(int8_bundle.path, threads=1) as ours, ThreadPoolExecutor(THREADS) as pool:
        assert sum(pool.map(ask, range(THREADS))) == THREADS * CALLS


def test_errors_belong_to_their_thread(library: Library) -> None:
    def fail(number: int) -> str:
        with pytest.raises(FailedError) as caught:
            library.open(f"/nowhere/{number}")
        return str(caught.value)

    with ThreadPoolExecutor(16) as pool:
        for number, message in enumerate(pool.map(fail, range(400))):
            assert message.startswith(f"/nowhere/{number}: not a bundle")


def test_a_closed_engine_is_recognised(library: Library, small_bundle: Bundle) -> None:
    images = np.zeros((1, 1, 8, 12), np.float32)
    engine = library.open(small_bundle.path)
    engine.close()
    logits = np.zeros((1, 5), np.float32)
    status = library.c.paraexport_run(engine.handle, images.ctypes.data, 1, logits.ctypes.data)
    assert (status, library.last_error()) == (
        BAD_INPUT, "the engine is closed, or was never opened; open a bundle with paraexport_open"
    )  # fmt: skip
    with pytest.raises(FailedError, match="the engine is closed"):
        engine.close()
    other = library.open(small_bundle.path)  # it gets another handle
    with pytest.raises(FailedError, match="the engine is closed"):
        engine.info()
    other.close()


def test_an_engine_may_be_closed_while_others_use_it(library: Library, small_bundle: Bundle) -> None:
    images = np.random.default_rng(0).standard_normal((5, 1, 8, 12), np.float32)
    expected = paraexport.load(small_bundle.path)(images)
    for _ in range(10):
        engine = library.open(small_bundle.path, threads=1)
        started = threading.Barrier(5)

        def ask(engine=engine, started=started) -> int:  # type: ignore[no-untyped-def]
            started.wait()
            done = 0
            logits = np.zeros((5, 5), np.float32)
            while library.c.paraexport_run(engine.handle, images.ctypes.data, 5, logits.ctypes.data) == 0:
                np.testing.assert_array_equal(logits, expected)
                done += 1
            return done

        with ThreadPoolExecutor(4) as pool:
            answers = [pool.submit(ask) for _ in range(4)]
            started.wait()
            engine.close()
            assert all(answer.result() >= 0 for answer in answers)


def test_a_struct_of_an_older_header_gets_only_its_fields(library: Library, small_bundle: Bundle) -> None:
    with library.open(small_bundle.path) as ours:
        info = Info(Info.classes.offset)
        info.classes = 77
        assert library.c.paraexport_get_info(ours.handle, ctypes.byref(info)) == 0
        assert (info.channels, info.height, info.width, info.classes) == (1, 8, 12, 77)
        for size in (0, 7, 10**6):
            info.size = size
            assert library.c.paraexport_get_info(ours.handle, ctypes.byref(info)) == BAD_INPUT
            assert "size of paraexport_info is not set" in library.last_error()
        answers = (Answer * 3)()
        answers[0].size = Answer.score.offset
        logits = np.arange(5, dtype=np.float32)
        found = ctypes.c_size_t()
        status = library.c.paraexport_answers(ours.handle, logits.ctypes.data, answers, 3, ctypes.byref(found))
        assert (status, found.value) == (0, 3)
        # The elements lie as close as the caller's struct is large.
        second = Answer.from_buffer_copy(bytes(answers)[Answer.score.offset :] + bytes(8))
        assert (second.index, second.label) == (3, b"d")


def test_more_answers_than_classes_are_not_written(library: Library, small_bundle: Bundle) -> None:
    with library.open(small_bundle.path) as ours:
        assert len(ours.answers(np.zeros(5, np.float32), most=9)) == 5
        with pytest.raises(FailedError, match="the outputs of the model are not finite"):
            ours.answers(np.full(5, np.nan, np.float32))


def test_a_call_that_fails_finds_nothing(library: Library, small_bundle: Bundle) -> None:
    answers, found = (Answer * 3)(), ctypes.c_size_t(7)
    logits = np.zeros(5, np.float32)
    with library.open(small_bundle.path) as ours:
        status = library.c.paraexport_answers(ours.handle, logits.ctypes.data, answers, 3, ctypes.byref(found))
        assert (status, found.value) == (BAD_INPUT, 0)
        found.value = 7
        status = library.c.paraexport_classify(ours.handle, None, answers, 3, ctypes.byref(found))
        assert (status, found.value) == (BAD_INPUT, 0)


TOO_MANY_FILES = """
import resource, sys
from pathlib import Path
from tests.cpp.library import Library, FailedError
library = Library(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
files = []
try:
    while True:
        files.append(open("/dev/null"))
except OSError:
    pass
for spare in range(4):
    try:
        library.verify(Path(sys.argv[2]))
    except FailedError as error:
        print(error.status, "ulimit -n" in str(error))
    files.pop()
"""


def test_too_many_open_files_is_no_fault_of_the_bundle(library: Library, cpp_build: Path, small_bundle: Bundle) -> None:
    file = cpp_build / "libparaexport.so"
    done = building.run(sys.executable, "-c", TOO_MANY_FILES, file, small_bundle.path, cwd=building.ROOT)
    lines = building.must(done).splitlines()
    assert lines
    assert {*lines} == {"3 True"}


def test_a_label_that_does_not_exist_is_null(library: Library, small_bundle: Bundle) -> None:
    with library.open(small_bundle.path) as ours:
        assert library.c.paraexport_label(ours.handle, 5) is None
        assert library.last_error() == "index: there is no such output (expected 0 to 4, got 5)"
