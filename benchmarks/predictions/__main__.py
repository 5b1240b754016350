"""Defines the command `python -m benchmarks.predictions`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from benchmarks.harness import pages
from benchmarks.predictions import compare, fit, measurements, page, published, scaling
from paraexport.bench.predict.runtimes import RUNTIMES, Runtime

NAME, COMMAND = "predictions", "python -m benchmarks.predictions -o benchmarks/results/"


def print_scaling(prices: tuple[str, ...]) -> None:
    for title, lines in scaling.tables(scaling.parse_prices(prices)):
        click.echo(f"\n{title}\n\n{pages.markdown_table(lines)}")


def stale(runtimes: Mapping[str, Runtime]) -> list[str]:
    """The runtimes whose committed numbers are not those of the fit."""
    return [f"{name}: {runtimes[name]}" for name, committed in RUNTIMES.items() if runtimes[name] != committed]


@click.command(help="Compare the cost model with every measurement, or print what it says about scaling.")
@click.option("--scaling", "only_scaling", is_flag=True, help="Print the tables of docs/scaling.md instead.")
@click.option(
    "--price", "prices", multiple=True, metavar="DEVICE=USD", help="Price of an hour, for --scaling; may be repeated."
)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Folder for CSV and page.")
def main(*, only_scaling: bool, prices: tuple[str, ...], output: Path | None) -> None:
    if only_scaling:
        print_scaling(prices)
        return
    if prices:
        raise click.UsageError("--price needs --scaling")
    held = measurements.read_all()
    runtimes, peaks = fit.fit_all(held, measurements.measured_peaks(), compare.held_kernels)
    rows = [*compare.compare(held, runtimes, peaks), *compare.compare_published(published.read_published())]
    for table in (page.summary(rows), page.outside(rows), page.numbers(runtimes)):
        click.echo(f"{pages.markdown_table([*table])}\n")
    click.echo(page.share(rows))
    if output is not None:
        pages.write_csv(output / f"{NAME}.csv", compare.Row, rows)
        (output / f"{NAME}.md").write_text(page.page(rows, runtimes, peaks, COMMAND), encoding="utf-8")
    if changed := stale(runtimes):
        raise click.ClickException(f"paraexport/bench/predict/runtimes.py has other numbers: {'; '.join(changed)}")


if __name__ == "__main__":
    main()
