"""The SQL of the dashboards: ``queries.sql``, filled with the parts that queries share (``fragments.sql``).

``@name`` in a query stands for the fragment ``name``. A query for lines over time has a second comment line, such as
``-- gaps: NULL in rate of each metric``: its columns beside ``time``, and their value where windows are missing. ``$``
begins a variable or a macro of Grafana, which replaces both when it sends the query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from funnelwatch.schemas.histogram import SLOTS
from funnelwatch.sinks.timescale.queries import parse_queries

if TYPE_CHECKING:
    from collections.abc import Mapping

QUERIES: Final = parse_queries((files(__package__) / "queries.sql").read_text())
FRAGMENTS: Final = parse_queries((files(__package__) / "fragments.sql").read_text())

OWN_VARIABLES: Final = frozenset({"level", "dimension", "by"})
"""Variables of the dashboards that a dimension may share its name with."""

_PLACE = re.compile(r"@(\w+)")
_GAPS = re.compile(r"-- gaps: (?P<missing>NULL|0) in (?P<columns>.+?)(?P<each> of each metric)?\n")


def variable_of(dimension: str) -> str:
    """The variable of a dimension: its name; in capitals, which no dimension has, if the name is taken."""
    return dimension.upper() if dimension in OWN_VARIABLES else dimension


@dataclass(frozen=True)
class Statements:
    """The statements of dashboards that know some dimensions.

    Attributes:
        dimensions: their names. They become part of the SQL, and ``check_dimension_name`` accepts them.
    """

    dimensions: tuple[str, ...]

    def of(self, name: str, *, by: str = "", dimension: str = "") -> str:
        """One statement of ``queries.sql``.

        Args:
            name: its name there.
            by: the variable that holds the dimensions to break down by, if the query breaks down.
            dimension: the dimension whose values the query lists, if it does.
        """
        parts = FRAGMENTS | {
            "choices": ",\n".join(_part("choice", one) for one in ("step", *self.dimensions)),
            "links": "".join(f"{_part('link', one)},\n" for one in self.dimensions),
            "declared": ", ".join(f"'{one}'" for one in self.dimensions),
            "slots": ", ".join(f"sum(c.d{slot})" for slot in range(SLOTS)),
            "by_variable": by,
            "name": dimension,
        }
        text: str = QUERIES[name]
        if gaps := _GAPS.match(text):
            text, parts = FRAGMENTS["with_gaps"], parts | _gap_parts(gaps, text[gaps.end() :])
        return _filled(text, parts)


def _part(fragment: str, dimension: str) -> str:
    return _filled(FRAGMENTS[fragment], FRAGMENTS | {"name": dimension, "variable": variable_of(dimension)})


def _gap_parts(gaps: re.Match[str], counted: str) -> dict[str, str]:
    """What ``with_gaps`` needs to know of a query for lines."""
    each = bool(gaps["each"])
    columns = (["metric"] if each else []) + gaps["columns"].split(", ")
    return {
        "counted": counted,
        "neighbouring": "PARTITION BY metric ORDER BY time" if each else "ORDER BY time",
        "columns": ", ".join(["time", *columns]),
        "missing": ", ".join("metric" if one == "metric" else gaps["missing"] for one in columns),
        "order": "1, 2" if each else "1",
    }


def _filled(text: str, parts: Mapping[str, str]) -> str:
    """The text with its parts in their places; the lines of a part are indented like the line of its place."""
    lines = []
    for line in text.splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        # A lambda that is called at once: it sees this line's indent.
        lines.append(
            _PLACE.sub(lambda place: _filled(parts[place[1]], parts).replace("\n", f"\n{indent}"), line)  # noqa: B023
        )
    return "\n".join(lines)
