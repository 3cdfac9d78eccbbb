"""The picture of the detection report: false alarms against what is caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.report.cases import DROPS, SCORES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.report.simulate import Results

FLOOR = 0.01


def draw_picture(results: Results, path: Path) -> None:
    """False alarms per series in 30 days against the share of 20% drops caught within 5 minutes, rule by rule."""
    # Ids from a fixed salt and no date: the same results give the same file.
    with mpl.rc_context({"svg.hashsalt": "funnelwatch", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 5.2), layout="constrained")
        axes = figure.add_subplot()
        for name, curve in results.rivals.items():
            points = sorted((max(false, FLOOR), 100 * caught) for false, caught, _ in curve)
            axes.plot(*zip(*points, strict=True), linewidth=1.2, label=name)
        own = [
            (max(results.false["200"][score], FLOOR), 100 * results.delays["200", DROPS[2], score].within(5), score)
            for score in SCORES
        ]
        axes.plot(*zip(*[one[:2] for one in own], strict=True), "k-o", linewidth=2.2, label="funnelwatch, by score")
        for false, caught, score in own:
            axes.annotate(f"{score:g}", (false, caught), xytext=(4, -11), textcoords="offset points")
        axes.set_xscale("log")
        axes.set_xlabel("false alarms per series in 30 days (0.01: none seen)")
        axes.set_ylabel("20% drops told within 5 minutes, %")
        axes.set_title("What a rule catches for the false alarms it raises, at 200 impressions a minute")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, format="svg", metadata={"Date": None})
