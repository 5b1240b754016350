"""Kills builds at every step: the old bundle or the new one must remain, and the next build must clean up.

`python -m tests.faults.kills` is the long campaign. It kills

- the last stage, which puts a bundle in its place, before each of its file operations, in both ways of replacing;
- whole builds by the command line, at times spread over all stages.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click

from paraexport.bundle import read_bundle, swap
from paraexport.errors import ParaexportError
from tests.faults.bundles import IMAGES, Variant, hidden, put, variants
from tests.faults.replacements import WAYS

STEPS = ("open", "os.", "shutil.", "pathlib.", "tempfile.", "ctypes.")
"""Python's audit events that may occur before or after a change in a folder."""


@dataclass
class Tally:
    kills: int = 0
    old: int = 0
    new: int = 0
    failures: list[str] = field(default_factory=list)

    def count(self, what: str, place: Path, models: dict[str, str]) -> None:
        """Check the bundle at `place` after a kill. `models` has the sha256 of the old and of the new model."""
        self.kills += 1
        try:
            which = models[model_sha256(place)]
        except ParaexportError as error:
            self.failures.append(f"{what}: {error}")
            return
        except KeyError as error:
            self.failures.append(f"{what}: a third model, {error}")
            return
        self.old += which == "old"
        self.new += which == "new"


def model_sha256(bundle: Path) -> str:
    """The digest of the model. Two builds of one checkpoint share it; their manifests differ in the report."""
    return read_bundle(bundle).manifest.files["model.onnx"].sha256


def killed_at(step: int, variant: Variant, place: Path, way: str) -> bool:
    """Replace the bundle at `place` in a process that kills itself before its file operation number `step`.

    Returns False if the replacement finished before that step.
    """
    if (child := os.fork()) == 0:  # the process must have one thread, or the child could wait for a lock for ever
        if way != WAYS[0]:
            swap.exchange = lambda first, second: False
        left = [step]

        def hook(event: str, _: object) -> None:
            if event.startswith(STEPS) and event != "os.kill":
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        put(variant, place)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def serve_steps(folder: Path, place: Path, way: str) -> None:
    """For every step on stdin, replace and get killed at that step. Print whether the kill happened."""
    for line in sys.stdin:
        print(killed_at(int(line), Variant(folder, "", IMAGES), place, way), flush=True)


def kill_every_step(both: tuple[Variant, Variant], place: Path, way: str) -> Tally:
    """Kill a replacement before each of its operations, from the first to the last."""
    tally, step = Tally(), 0
    old, new = both
    command = [sys.executable, "-m", "tests.faults.kills", "--server", str(new.folder), str(place), way]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        while True:
            put(old, place)
            if left := hidden(place.parent):
                tally.failures.append(f"{way}, after the build that followed step {step - 1}: {', '.join(left)} left")
            print(step, file=server.stdin, flush=True)
            if server.stdout.readline() != "True\n":
                server.stdin.close()
                return tally
            tally.count(
                f"{way}, step {step}", place, {model_sha256(old.folder): "old", model_sha256(new.folder): "new"}
            )
            step += 1


def kill_builds(both: tuple[Variant, Variant], place: Path, kills: int, seed: int = 0) -> Tally:
    """Kill whole builds by the command line, of the second bundle over the first, at random times."""
    tally, pick = Tally(), random.Random(seed)
    old, new = both
    checkpoint = new.folder.with_suffix(".pt")
    command = [sys.executable, "-m", "paraexport", "build", str(checkpoint), "-o", str(place)]
    command += ["--max-batch", "5", "--force", "-q"]
    put(old, place)
    started_s = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    length_s = time.monotonic() - started_s
    models = {model_sha256(old.folder): "old", model_sha256(place): "new"}
    for number in range(kills):
        put(old, place)
        if left := hidden(place.parent):
            tally.failures.append(f"after the build that followed kill {number - 1}: {', '.join(left)} left")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            time.sleep(pick.uniform(0, length_s))
            process.kill()
        tally.count(f"kill {number}", place, models)
    put(old, place)
    tally.failures += hidden(place.parent)
    return tally


def campaigns(work: Path, kills: int) -> Iterator[tuple[str, Tally]]:
    both = variants(work)
    (work / "place").mkdir()
    place = work / "place/a.bundle"
    for way in WAYS:
        yield f"replacing, {way}", kill_every_step(both, place, way)
    yield "whole builds", kill_builds(both, place, kills)


@click.command()
@click.option("--kills", default=200, show_default=True, help="Whole builds that are killed.")
@click.option("--server", nargs=3, hidden=True)
def main(kills: int, server: tuple[str, str, str] | None) -> None:
    """Kill builds at every step, and check what is left."""
    if server:
        folder, place, way = server
        serve_steps(Path(folder), Path(place), way)
        return
    failed = False
    with tempfile.TemporaryDirectory() as work:
        for name, tally in campaigns(Path(work), kills):
            outcomes = f"{tally.old} old, {tally.new} new, {len(tally.failures)} failures"
            print(f"{name:24} {tally.kills:5} kills: {outcomes}", flush=True)
            for failure in tally.failures[:10]:
                print(f"    {failure}", flush=True)
            failed |= bool(tally.failures)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
