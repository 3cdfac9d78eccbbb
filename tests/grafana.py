"""What Grafana does to a query before it sends it: macros and variables expanded, as its documentation says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from funnelwatch.sinks.timescale.database import Database, Row

FOLDER = Path(__file__).parents[1] / "deploy" / "grafana" / "dashboards"
NAMES = ("alerts", "funnel", "pipeline", "step")
ALL = "$__all"
"""Grafana's value of a variable of which everything is chosen."""
LEFT = re.compile(r"\$(\{|\w+\()|\[\[")
"""What is of Grafana: a variable, or anything that its server takes for a macro."""


def dashboard(name: str) -> dict[str, Any]:
    """A dashboard as it is checked in."""
    read: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return read


def queries(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The SQL of a dashboard's panels and annotations, each with the title and ref of where it stands."""
    for panel in document["panels"]:
        for target in panel["targets"]:
            if "rawSql" in target:
                yield f"{panel['title']} {target['refId']}", target["rawSql"]
    for annotation in document["annotations"].get("list") or []:
        yield f"{annotation['name']} (annotation)", annotation["target"]["rawSql"]


def targets(view: View, document: Mapping[str, Any]) -> Iterator[tuple[str, View, dict[str, Any]]]:
    """The queries that a page asks the database, with repeated panels repeated.

    Each has the title and ref of where it stands, the view of its panel, and its JSON.
    """
    for panel in document["panels"]:
        for one in view.repeats(panel.get("repeat")):
            for target in panel["targets"]:
                if "rawSql" in target:
                    yield f"{one.title(panel['title'])} {target['refId']}", one, target
    for annotation in document["annotations"].get("list") or []:
        yield f"{annotation['name']} (annotation)", view, annotation["target"]


def answers(database: Database, view: View, document: Mapping[str, Any]) -> dict[str, list[Row]]:
    """What each query of a dashboard answers, by where it stands."""
    return {place: ask(database, one.expand(target["rawSql"])) for place, one, target in targets(view, document)}


@dataclass
class View:
    """A dashboard as somebody looks at it.

    Attributes:
        from_ms: begin of the range.
        to_ms: its end.
        chosen: variable to what is chosen; ``[ALL]``: everything.
        options: variable to what may be chosen.
        all_values: variable to the SQL that stands for everything, where it has its own.
    """

    from_ms: int
    to_ms: int
    chosen: dict[str, list[str]] = field(default_factory=dict)
    options: dict[str, list[str]] = field(default_factory=dict)
    all_values: dict[str, str] = field(default_factory=dict)

    def interpolate(self, sql: str) -> str:
        """What Grafana's page asks its server: the variables are in it, the macros are not."""
        sql = sql.replace("${__from}", str(self.from_ms)).replace("${__to}", str(self.to_ms))
        return re.sub(r"\$\{(\w+):(sqlstring|raw)\}", lambda m: self._variable(m[1], m[2]), sql)

    def expand(self, sql: str) -> str:
        """The SQL that Grafana's server sends.

        Raises:
            ValueError: something of Grafana's is left, which Grafana would reject or send to the database.
        """
        moments = {"From": moment(self.from_ms), "To": moment(self.to_ms)}
        sql = self.interpolate(sql)
        sql = re.sub(
            r"\$__timeFilter\(([\w.]+)\)", lambda m: f"{m[1]} BETWEEN {moments['From']} AND {moments['To']}", sql
        )
        sql = re.sub(r"\$__time(From|To)\(\)", lambda m: moments[m[1]], sql)
        if LEFT.search(sql):
            raise ValueError(f"not expanded: {sql}")
        return sql

    def title(self, text: str) -> str:
        """A title with the variables in it."""
        return re.sub(r"\$\{(\w+)\}", lambda m: " + ".join(self.chosen[m[1]]), text)

    def repeats(self, variable: str | None) -> list[View]:
        """The views of a panel that is repeated for a variable: one for each value; without a variable, this view."""
        if variable is None:
            return [self]
        values = self.options[variable] if self.chosen[variable] == [ALL] else self.chosen[variable]
        return [replace(self, chosen=self.chosen | {variable: [value]}) for value in values or [""]]

    def _variable(self, name: str, form: str) -> str:
        values = self.chosen[name]
        if values == [ALL]:
            if name in self.all_values:
                return self.all_values[name]
            values = self.options[name]
        if form == "raw":
            return ",".join(values)
        return ",".join("'" + value.replace("'", "''").replace('"', '\\"') + "'" for value in values)

    def choose(self, database: Database, document: Mapping[str, Any], wanted: Mapping[str, Sequence[str]]) -> None:
        """Fill the variables of a dashboard, asking the database; see ``fill_in``."""
        self.fill_in(
            lambda sql: [next(iter(row.values())) for row in ask(database, self.expand(sql))], document, wanted
        )

    def fill_in(
        self,
        options: Callable[[str], list[str]],
        document: Mapping[str, Any],
        wanted: Mapping[str, Sequence[str]],
    ) -> None:
        """Fill the variables in their order, as Grafana does: what is wanted, else the default, else the first.

        Args:
            options: what a variable's query finds.
            document: the dashboard.
            wanted: what somebody chooses, by variable.
        """
        for variable in document["templating"]["list"]:
            found = options(variable["query"])
            name = variable["name"]
            self.options[name] = found
            if "allValue" in variable:
                self.all_values[name] = variable["allValue"]
            if name in wanted:
                assert set(wanted[name]) <= set(found), f"{name}: {wanted[name]} is not among {found}"
                self.chosen[name] = list(wanted[name])
            elif variable["includeAll"]:
                self.chosen[name] = [ALL]
            else:
                default = [value for value in variable.get("current", {}).get("value", []) if value in found]
                self.chosen[name] = default or found[:1] or ([] if variable["multi"] else [""])


def moment(ms: int) -> str:
    """A time as Grafana writes it."""
    return f"'{datetime.fromtimestamp(ms / 1000, tz=UTC):%Y-%m-%dT%H:%M:%SZ}'"


def ask(database: Database, sql: str) -> list[Row]:
    """The rows that Grafana gets, by the role that it has."""
    with database.transaction() as cursor:
        cursor.execute("SET LOCAL ROLE funnelwatch_reader")
        cursor.execute(cast("Any", sql))
        return cursor.fetchall()
