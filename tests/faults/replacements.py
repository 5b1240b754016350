"""Loads a bundle while another process replaces it: each load must give the old bundle or the new one.

`python -m tests.faults.replacements` is the long campaign.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import click
import numpy as np

import paraexport
from paraexport.bundle import swap
from paraexport.errors import ParaexportError
from tests.faults.bundles import IMAGES, Variant, put, variants

PAUSES_S = {"tight loop": 0.0, "50 a second": 0.02, "2 a second": 0.5}
WAYS = ("swap", "two renames")


def replace_for_ever(place: Path, folders: list[Path], pause_s: float, way: str) -> None:
    """Put two bundles at `place` in turns until this process is killed."""
    if way != WAYS[0]:
        swap.exchange = lambda first, second: False
    print("ready", flush=True)
    while True:
        for folder in folders:
            put(Variant(folder, "", IMAGES), place)
            time.sleep(pause_s)


def load_during_replacement(
    both: tuple[Variant, ...], place: Path, *, pause_s: float, way: str, loads: int
) -> Counter[str]:
    """Count the loads by outcome: right, with the first or second bundle, wrong, or failed."""
    put(both[0], place)
    arguments = [str(place), *(str(variant.folder) for variant in both), str(pause_s), way]
    command = [sys.executable, "-m", "tests.faults.replacements", "--writer", *arguments]
    outcomes: Counter[str] = Counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(loads):
            outcomes[outcome(both, place)] += 1
        assert writer.poll() is None
        writer.kill()
    return outcomes


def outcome(both: tuple[Variant, ...], place: Path) -> str:
    try:
        engine = paraexport.load(place, threads=1)
        logits = engine(IMAGES)
    except ParaexportError as error:
        return f"false error: {error}"
    except Exception as error:
        return f"bug: {type(error).__name__}: {error}"
    (described,) = (variant for variant in both if variant.digest == engine.manifest.digest)
    which = "first" if described is both[0] else "second"
    return f"right, {which}" if np.array_equal(logits, described.logits) else "wrong answers"


@click.command()
@click.option("--loads", default=1000, show_default=True, help="Loads for each target, pace and way of replacing.")
@click.option("--writer", nargs=5, hidden=True)
def main(loads: int, writer: tuple[str, str, str, str, str] | None) -> None:
    """Load a bundle again and again while another process replaces it."""
    if writer:
        path, *folders, seconds, how = writer
        replace_for_ever(Path(path), [*map(Path, folders)], float(seconds), how)
    failed = False
    with tempfile.TemporaryDirectory() as work:
        for target in ("onnxruntime", "openvino"):
            (folder := Path(work) / target).mkdir()
            both = variants(folder, target)
            (folder / "place").mkdir()
            for way in WAYS:
                for pace, pause_s in PAUSES_S.items():
                    outcomes = load_during_replacement(
                        both, folder / "place/a.bundle", pause_s=pause_s, way=way, loads=loads
                    )
                    listed = ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items()))
                    print(f"{target:12} {way:12} {pace:12} {sum(outcomes.values()):6} loads: {listed}", flush=True)
                    failed |= any(not what.startswith("right") for what in outcomes)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
