"""docs/api.md names what the query API has, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from funnelwatch.query.parameters import MOST_BY, MOST_VALUES
from funnelwatch.query.rates import MOST_ROWS, MOST_SPANS
from funnelwatch.schemas.settings import Settings
from funnelwatch.web.api.alerts import MOST_ALERTS
from funnelwatch.web.app import create_app
from funnelwatch.web.pool import CONNECTIONS, STATEMENT_S

DOC = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
PATHS = create_app(Settings()).openapi()["paths"]


def test_every_path_and_parameter_is_documented() -> None:
    """The tables have the paths and parameters of the OpenAPI document."""
    assert set(re.findall(r"^\| `(/api/v1/[\w/{}]+)` \|", DOC, re.MULTILINE)) == set(PATHS)
    table = DOC.partition("## Parameters")[2].partition("\n## ")[0]
    documented = {
        name for cell in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", cell)
    }
    parameters = [one for path in PATHS.values() for one in path["get"]["parameters"]]
    assert documented == {one["name"] for one in parameters if one["schema"].get("type") != "object"}


def test_every_answer_is_documented() -> None:
    """Each status that the OpenAPI document names stands in the table."""
    table = DOC.partition("| status | when |")[2]
    statuses = {status for path in PATHS.values() for status in path["get"]["responses"]} - {"200"}
    assert statuses <= set(re.findall(r"^\| (\d+) \|", table, re.MULTILINE))


def test_the_limits_are_those_of_the_code() -> None:
    """A number that is changed is changed in both."""
    for limit in (f"| spans of `every` | {MOST_SPANS:,} |", f"| rows of an answer | {MOST_ROWS:,} |"):
        assert limit in DOC
    assert f"| dimensions of `by` | {MOST_BY} |" in DOC
    assert f"| values in all filters | {MOST_VALUES} |" in DOC
    assert f"(`by=os,country`, at most {MOST_BY})" in DOC
    assert f"at most {MOST_ALERTS:,}" in DOC
    assert f"| a statement of the database | {STATEMENT_S:g} s |" in DOC
    assert f"| statements at once | {CONNECTIONS};" in DOC
