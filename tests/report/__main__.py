"""``make detection-report``: measure the detector on simulated scenarios, and bring docs/detection.md up to date."""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.report import tables
from tests.report.people import compare
from tests.report.picture import draw_picture
from tests.report.simulate import Results, Sizes, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
QUICK = 0.1


def main() -> int:
    """Run, write, and say which targets are missed; exit code 1 if any is."""
    parser = argparse.ArgumentParser(prog="make detection-report", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="everything random follows from it (default 1)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations; too few to rely on")
    parser.add_argument("--size", type=float, default=1.0, help="share of the simulations (default 1)")
    parser.add_argument("--only", choices=["people"], help="only the comparison of bases")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="folder of detection.md and detection.svg")
    options = parser.parse_args()
    size = QUICK if options.quick else options.size
    began = time.monotonic()
    page = options.docs / "detection.md"
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    if options.only:
        series = Sizes().scaled(size).people
        compared = compare(series, options.seed * 100 + 70)
        how = f"Seed {options.seed}, {series} series of each kind, {machine}, {time.monotonic() - began:.0f} s."
        put(page, {"people": tables.people(compared), "people-run": how})
        print(tables.people(compared))
        return 0
    results = simulate(options.seed, Sizes().scaled(size))
    how = f"Seed {options.seed}, size {size:g}, {machine}, {time.monotonic() - began:.0f} s."
    fill(page, results, how)
    draw_picture(results, options.docs / "detection.svg")
    found = tables.targets(results)
    print(found)
    return 1 if "missed" in found else 0


def fill(path: Path, results: Results, how: str) -> None:
    """Put each table between the marks of its name."""
    parts = {
        "run": how,
        "targets": tables.targets(results),
        "scores": tables.scores(results),
        "rivals": tables.rivals(results),
        "beyond": tables.beyond(results),
        "stays": tables.stays(results),
        "people": tables.people(results.people),
        "people-run": how,
    }
    put(path, parts)


def put(path: Path, parts: Mapping[str, str]) -> None:
    """Put each text between the marks of its name."""
    text = path.read_text(encoding="utf-8")
    for name, content in parts.items():
        mark = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
        text = re.sub(mark, lambda found, put=content: f"{found[1]}{put}\n{found[2]}", text, flags=re.DOTALL)  # type: ignore[misc]
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
