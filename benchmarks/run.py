"""Measure the figures that this project promises, and say which hold: ``make bench``.

Prints a table and writes ``benchmarks/results.json``. ``--only NAME`` runs one group (repeatable),
``--quick`` runs all of them on tiny sizes, which shows that they work and nothing else; neither
touches the results of a full run. A row whose yardstick or server is not installed is left out, by name: Debian's
packages git, rclone, unison, ripgrep, redis-server and postgresql. All of it takes an hour, 20 GB of disk, and a
machine that does nothing else; ``--folder /dev/shm`` measures without the disk.
Nothing here is a test: a figure that is missed fails nothing.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import appending
import arrivals
import commanding
import distant
import exporting
import files
import idling
import importing
import library
import listing
import mirroring
import vaulting
from generate import Prose, messages, zstd_ratio
from measure import QUICK, Bench, Figure, LeftOut, Noted, Scale

from steno.storage.sqlite import dbapi

GROUPS: dict[str, Callable[[Bench], Sequence[Figure | LeftOut | Noted]]] = {
    "append": appending.figures,
    "library": library.figures,
    "list": listing.figures,
    "cli": commanding.figures,
    "import": importing.figures,
    "export": exporting.figures,
    "mirror": mirroring.figures,
    "latency": arrivals.figures,
    "idle": idling.figures,
    "files": files.figures,
    "vault": vaulting.figures,
    "distant": distant.figures,
}
RESULTS = Path(__file__).with_name("results.json")
HEADS = ("what", "ours", "yardstick", "ratio", "spread", "goal", "met")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Measure steno against its yardsticks.")
    parser.add_argument("--only", action="append", choices=GROUPS, help="one group; repeat for several")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that everything runs")
    parser.add_argument("--folder", type=Path, help="where to work: its disk is measured (default: the temporary one)")
    parser.add_argument("--results", type=Path, default=None, help="where to write the results as JSON")
    chosen = parser.parse_args(arguments)
    names = chosen.only or list(GROUPS)
    results = chosen.results or (RESULTS if not chosen.quick and not chosen.only else None)
    ratio = zstd_ratio([text for _, text in messages(Prose(1), 200 if chosen.quick else 6500)])
    print(f"generated text: zstd level 3 leaves {ratio:.2f} of 4 MiB", flush=True)
    scale = QUICK if chosen.quick else Scale()
    rows = [row for name in names for row in _measured(name, scale, chosen.folder)]
    found = [row for row in rows if isinstance(row, Figure)]
    left_out = [row for row in rows if isinstance(row, LeftOut)]
    noted = [row for row in rows if isinstance(row, Noted)]
    print("\n".join(table(found)))
    for row in noted:
        print(f"noted: {row.what}: {row.found}")
    for row in left_out:
        print(f"left out: {row.what}: {row.why}")
    if results is not None:
        results.write_text(json.dumps(_report(found, noted, left_out, ratio), indent=2) + "\n", encoding="utf-8")
    return 0


def table(figures: Sequence[Figure]) -> list[str]:
    """The lines of the table."""
    rows = [HEADS, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _row(figure: Figure) -> tuple[str, ...]:
    sign = ">=" if figure.at_least else "<="
    ratio = f"{figure.value:.2f}" if figure.unit == "x" else "-"
    goal = f"{sign} {figure.goal:g} {figure.unit}"
    return figure.what, figure.ours, figure.yardstick, ratio, figure.spread, goal, "yes" if figure.met else "NO"


def _measured(name: str, scale: Scale, parent: Path | None) -> Sequence[Figure | LeftOut | Noted]:
    folder = Path(tempfile.mkdtemp(prefix="steno-bench-", dir=parent))
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{name}: {text}", file=sys.stderr, flush=True)

    try:
        found = GROUPS[name](Bench(scale, folder, say))
    finally:
        shutil.rmtree(folder)
    say(f"measured in {time.monotonic() - began:.0f} s")
    return found


def _report(
    figures: Sequence[Figure], noted: Sequence[Noted], left_out: Sequence[LeftOut], ratio: float
) -> dict[str, object]:
    return {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "python": platform.python_version(),
        "sqlite": dbapi.sqlite_version,
        "machine": f"{platform.system()} {platform.machine()}",
        "zstd_ratio": round(ratio, 3),
        "figures": [
            {
                "what": figure.what, "ours": figure.ours, "yardstick": figure.yardstick,
                "value": round(figure.value, 3), "unit": figure.unit, "spread": figure.spread,
                "goal": f"{'>=' if figure.at_least else '<='} {figure.goal:g}", "met": figure.met,
            }
            for figure in figures
        ],
        "noted": {row.what: row.found for row in noted},
        "left_out": {row.what: row.why for row in left_out},
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
