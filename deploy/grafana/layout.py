"""Pictures of the dashboards' layout, drawn from their JSON: the place and kind of each panel."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from math import cos, pi, sin
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

COLUMNS = 24
"""Grafana's grid."""
WIDTH = 960.0
ROW = 15.0
"""Height of a row of the grid."""
GAP = 6.0
TOP = 78.0
INK, MUTED, EDGE, GROUND, PANEL = "#15202b", "#55616e", "#cfd6dd", "#f3f5f7", "#ffffff"
FONT = 'role="img" font-family="system-ui, Helvetica, Arial, sans-serif"'
LINES = ("#005a9c", "#b4450c", "#0b7d68")
KINDS = {"timeseries": "lines", "table": "table", "stat": "number", "barchart": "bars", "bargauge": "bars"}
SMALL = 90.0
"""A panel lower than this has no sketch."""


def svg(dashboard: Mapping[str, Any]) -> str:
    """The layout of one dashboard as SVG: its variables above, its panels in their places."""
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    height = TOP + max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * ROW + GAP
    title = escape(dashboard["title"])
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {height:g}" {FONT}>',
            f"<title>Layout of the dashboard {title}</title>",
            f'<rect width="{WIDTH:g}" height="{height:g}" rx="10" fill="{GROUND}"/>',
            _text(18, 30, title, 18, INK, bold=True),
            *_variables(dashboard),
            *(line for panel in panels for line in _panel(panel)),
            "</svg>\n",
        ]
    )


def _variables(dashboard: Mapping[str, Any]) -> Iterator[str]:
    x = 18.0
    # hide 2: a variable that no person sees.
    for variable in dashboard.get("templating", {}).get("list", []):
        if variable.get("hide") == 2 or variable["type"] == "datasource":  # noqa: PLR2004
            continue
        name = variable.get("label") or variable["name"]
        width = 24 + 7.2 * len(name)
        yield f'<rect x="{x:g}" y="44" width="{width:g}" height="24" rx="5" fill="{PANEL}" stroke="{EDGE}"/>'
        yield _text(x + 8, 60, f"{name} ▾", 12, MUTED)
        x += width + 8


def _panel(panel: Mapping[str, Any]) -> Iterator[str]:
    place = panel["gridPos"]
    x = place["x"] / COLUMNS * (WIDTH - GAP) + GAP
    y = TOP + place["y"] * ROW
    width = place["w"] / COLUMNS * (WIDTH - GAP) - GAP
    height = place["h"] * ROW - GAP
    yield f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6" fill="{PANEL}" stroke="{EDGE}"/>'
    yield _text(x + 12, y + 22, panel["title"], 13, INK, bold=True)
    kind = KINDS.get(panel["type"], panel["type"]) + (f", for each {panel['repeat']}" if "repeat" in panel else "")
    yield _text(x + width - 12, y + 22, kind, 11, MUTED, anchor="end")
    if height >= SMALL:
        yield from _sketch(panel["type"], x + 14, y + 36, width - 28, height - 50)


def _sketch(kind: str, x: float, y: float, width: float, height: float) -> Iterator[str]:
    """A sketch of the panel's kind, without numbers that a reader could take for real ones."""
    if kind == "timeseries":
        for share in (0, 0.5, 1):
            yield f'<path d="M{x:g} {y + share * height:g}h{width:g}" stroke="{EDGE}" stroke-width="0.7"/>'
        for at, colour in enumerate(LINES):
            waves = [0.05 * sin(step * (0.5 + at * 0.21)) * cos(pi * step / 17) for step in range(41)]
            points = [
                (x + step / 40 * width, y + height * (0.25 + 0.24 * at + wave)) for step, wave in enumerate(waves)
            ]
            path = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in points)
            yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6" opacity="0.75"/>'
    elif kind == "table":
        rows = max(2, min(6, int(height // 15)))
        for row in range(rows):
            for left, right in pairwise((0.0, 0.3, 0.48, 0.66, 0.84, 1.0)):
                long = width * (right - left) * (0.7 if row == 0 else 0.55)
                yield _bar(x + left * width, y + row * height / rows, long, 7, MUTED if row == 0 else EDGE)
    elif kind in {"barchart", "bargauge"}:
        for at, share in enumerate((0.9, 0.55, 0.7, 0.3)):
            yield _bar(x, y + at * height / 4, width * share, height / 6, LINES[0])


def _bar(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3" fill="{fill}"/>'


def _text(x: float, y: float, text: str, size: int, fill: str, *, bold: bool = False, anchor: str = "start") -> str:
    style = f'font-size="{size}" font-weight="{650 if bold else 400}" fill="{fill}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'
