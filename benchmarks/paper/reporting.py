"""Writes the results of an experiment: NAME.csv with every run, NAME.md to read, NAME.json with machine and command."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import click
import msgspec

from benchmarks.harness import machine, pages

T = TypeVar("T")
Options = Callable[[Callable[..., None]], Callable[..., None]]


@dataclass(frozen=True)
class Header:
    """What all runs of an experiment have in common."""

    title: str
    settings: str
    command: str = field(default_factory=pages.command)
    machine: machine.Machine = field(default_factory=machine.describe)
    started_s: float = field(default_factory=time.perf_counter)


def output_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV, JSON and page."
    )(command)


def seed_options(seeds: Sequence[int]) -> Options:
    """`--seed`, `--quick` and `--output`."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        for option in (
            output_option,
            click.option("--quick", is_flag=True, help="Train for a moment, to see that the script runs."),
            click.option("--seed", "seeds", multiple=True, type=int, default=seeds, show_default=True),
        ):
            command = option(command)
        return command

    return add


def print_progress(line: str) -> None:
    click.echo(line, err=True)


def report(
    name: str, kind: type, runs: Sequence[object], text: str, header: Header, *, output: Path | None, picture: bool
) -> None:
    """Print `text`; with `output`, write the three files. `kind` is the dataclass of all `runs`."""
    click.echo(text)
    if output is None:
        return
    took_s = time.perf_counter() - header.started_s
    output.mkdir(parents=True, exist_ok=True)
    pages.write_csv(output / f"{name}.csv", kind, runs)
    facts = {
        "command": header.command,
        "machine": header.machine,
        "settings": header.settings,
        "took_s": round(took_s),
    }
    encoded = msgspec.json.format(msgspec.json.encode(facts), indent=2)
    (output / f"{name}.json").write_bytes(encoded + b"\n")
    image = f"![{name}]({name}.svg)\n\n" if picture else ""
    page = (
        f"# {name}: {header.title}\n\n`{header.command}`, {took_s:.0f} s.\n{header.machine.line()}.\n\n"
        f"{header.settings}.\n\n{image}{text}\n"
    )
    (output / f"{name}.md").write_text(page, encoding="utf-8")
    print_progress(f"wrote {name}.csv, .json and .md to {output} in {took_s:.0f} s")


def grouped(runs: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """The runs with the same key together, in the order of first appearance."""
    groups: dict[Hashable, list[T]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())


def table(headings: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return pages.markdown_table([[*headings], ["-"] * len(headings), *([*line] for line in lines)])


def mean_and_range(values: Sequence[float], form: str = ".1f") -> str:
    """Such as "93.2 (92.8 – 93.9)"; without a range for one value."""
    mean = f"{statistics.fmean(values):{form}}"
    return mean if len(values) == 1 else f"{mean} ({min(values):{form}} – {max(values):{form}})"
