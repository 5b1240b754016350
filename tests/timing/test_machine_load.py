"""CPUs that other processes kept busy."""

import os
import sys

import pytest

from paraexport.timing.machine_load import CpuTime


def test_the_load_of_others_is_that_of_the_machine_without_the_process() -> None:
    assert CpuTime(10, 100, 7).other_cpus(CpuTime(12, 105, 8)) == 2
    assert CpuTime(10, 100, 7).other_cpus(CpuTime(12, 101, 8)) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_cpu_time_is_read_from_the_system() -> None:
    before = CpuTime.now(os.getpid())
    assert before is not None
    assert before.machine_s > before.process_s > 0
    assert before.process_s == pytest.approx(sum(os.times()[:2]), abs=0.5)


def test_a_process_that_does_not_exist_has_no_cpu_time() -> None:
    assert CpuTime.now(-1) is None
