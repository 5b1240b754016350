"""A bisection as a table for people."""

from __future__ import annotations

from paraexport.cli.output import line_of, print_table
from paraexport.findings.bisection import Bisection


def print_bisection(bisection: Bisection) -> None:
    """One row a part that ran alone on the target, and what follows from all of them."""
    rows = [
        (
            one.part,
            one.within or "the graph",
            "-" if one.failure else "not finite" if one.off is None else f"{one.off:.3g}",
            "OFF" if one.is_off(bisection.limit) else "did not run" if one.failure else "",
            one.failure or ", ".join(one.worst_branches),
        )
        for one in bisection.parts
    ]
    print(f"each part alone on {bisection.target}, {bisection.batch} images, off by max |Δ| / max |value|")
    print_table(("part", "cut out of", "off", "", "note"), rows)
    print(line_of(bisection))
