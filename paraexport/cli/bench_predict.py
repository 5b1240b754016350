"""Runs `paraexport bench --predict`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from paraexport.cli.output import emit_json
from paraexport.cli.render import print_sections


def require_alone(others: Mapping[str, bool]) -> str:
    """The reason to refuse, or empty.

    Args:
        others: by option, whether it was given.
    """
    given = [name for name, is_given in others.items() if is_given]
    return f"--predict runs nothing, so it does not go together with {', '.join(given)}" if given else ""


def run(
    bundles: Sequence[Path],
    devices: str,
    batches: Sequence[int] | None,
    threads: int | None,
    *,
    files: Mapping[str, Path | None],
    as_json: bool,
) -> None:
    """Print the prediction, and write it to `files`, by `csv` and `markdown`."""
    from paraexport.bench.predict import rows, tables
    from paraexport.bench.predict.devices import parse_devices
    from paraexport.cli.bench import write

    names = parse_devices(devices)
    for file in files.values():
        write(file, "")  # to fail before the work, not after it
    prediction = rows.predict_bundles(bundles, names, batches, threads)
    write(files["csv"], tables.as_csv(prediction))
    write(files["markdown"], tables.as_markdown(prediction))
    if as_json:
        emit_json({"prediction": prediction})
    else:
        print_sections([tables.section(prediction)])
