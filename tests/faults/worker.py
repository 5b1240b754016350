"""Reads damaged files one after another in a separate process, and prints one JSON line for each."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import time
import warnings
from pathlib import Path
from random import Random

from paraexport.cli.failure import translated
from paraexport.errors import ParaexportError
from tests.faults.reader import Reader, all_readers


def case_bytes(reader: Reader, seeds: list[bytes], number: int) -> bytes:
    """The damaged file of this number, the same in every run."""
    pick = Random(f"{reader.name} {number}")
    return reader.damage(pick.choice(seeds), pick)


def outcome_of(reader: Reader, file: Path) -> tuple[str, str]:
    """(`read`, `refused` or `bug`, the message of the error)."""
    try:
        reader.read(file)
    except BaseException as error:
        known = translated(error)  # as the command line does
        text = f"{type(known).__name__}: {known}"
        refused = isinstance(known, ParaexportError) and known.exit_code in (2, 3) and "\n" not in text
        return "refused" if refused else "bug", text
    return "read", ""


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    name, start, stop = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # The output of libraries must not mix with the lines that the parent reads.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    warnings.simplefilter("ignore")
    reader = all_readers()[name]
    with tempfile.TemporaryDirectory() as work:
        (folder := Path(work) / "seeds").mkdir()
        seeds = list(reader.seeds(folder))
        good = Path(work) / f"good{reader.suffix}"
        for seed in seeds:  # they must be good, or the campaign proves nothing; this also warms up the libraries
            good.write_bytes(seed)
            reader.read(good)
        before_mb = peak_mb()
        print(json.dumps({"ready": len(seeds)}), file=out)
        for number in range(start, stop):
            file = Path(work) / f"case{reader.suffix}"
            file.write_bytes(case_bytes(reader, seeds, number))
            began_s = time.monotonic()
            outcome, message = outcome_of(reader, file)
            line = {"case": number, "outcome": outcome, "message": message[:500]}
            line |= {"seconds": time.monotonic() - began_s, "grown_mb": peak_mb() - before_mb}
            print(json.dumps(line), file=out)


if __name__ == "__main__":
    main()
