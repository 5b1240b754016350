"""The long campaign, `make faults`: `python -m tests.faults [--cases N] [--start N] [READER…]`."""

from __future__ import annotations

import sys

import click

from tests.faults.campaign import run
from tests.faults.reader import all_readers

CASES = 10_000


@click.command()
@click.option("--cases", default=CASES, show_default=True, help="Damaged files for each reader.")
@click.option("--start", default=0, show_default=True, help="Number of the first one; a number always means one file.")
@click.argument("names", metavar="[READER]…", nargs=-1)
def main(cases: int, start: int, names: tuple[str, ...]) -> None:
    """Give every reader damaged files, and print the outcomes."""
    readers = all_readers()
    if unknown := set(names) - readers.keys():
        raise click.UsageError(f"no reader {', '.join(sorted(unknown))}; there are {', '.join(readers)}")
    failed = False
    print(f"{'reader':24} {'cases':>7} {'read':>7} {'refused':>8} {'failed':>7} {'slowest s':>10} {'memory +MB':>11}")
    for name in names or readers:
        tally = run(readers[name], start, start + cases)
        numbers = f"{tally.cases:7} {tally.read:7} {tally.refused:8} {len(tally.failures):7}"
        print(f"{name:24} {numbers} {tally.slowest_s:10.2f} {tally.grown_mb:11.0f}", flush=True)
        for failure in tally.failures[:20]:
            print(f"    {failure}", flush=True)
        failed |= bool(tally.failures)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
