"""The dashboards as they are checked in: made from the code, of Grafana's schema, and of one piece."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
from ruamel.yaml import YAML

from funnelwatch.deploy.grafana.__main__ import DOCS, pictures
from funnelwatch.deploy.grafana.builders import at_its_time
from funnelwatch.deploy.grafana.documents import all_dimensions, documents
from funnelwatch.deploy.grafana.statements import FRAGMENTS, QUERIES, Statements, variable_of
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.schemas.funnels import BUILT_IN, Funnel
from funnelwatch.stream.worker import metrics
from funnelwatch.stream.worker.ages import LABELS, ages
from tests.grafana import FOLDER, NAMES, dashboard, queries

GRAFANA = FOLDER.parent
OF_GRAFANA = {"__from", "__to", "__rate_interval"}


def test_the_files_are_what_the_code_makes() -> None:
    """Whoever changes a dashboard runs ``python -m funnelwatch.deploy.grafana``; the files fit the built-in funnel."""
    assert documents() == {path.name: path.read_text() for path in FOLDER.iterdir()}
    assert all_dimensions(BUILT_IN) == DIMENSION_FIELDS


def test_the_same_code_makes_the_same_files() -> None:
    """No time, no random id: a change in the JSON is a change of a dashboard."""
    assert documents() == documents()


OWN = ("country", "plan", "os", "by", "level")
"""Dimensions of a deployment, some named like variables of the dashboards."""


@pytest.fixture(params=[(name, kind) for name in NAMES for kind in ("default", "own")], ids="-".join)
def document(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each dashboard, as it is checked in and for dimensions of a deployment."""
    name, kind = request.param
    read: dict[str, Any] = dashboard(name) if kind == "default" else json.loads(documents(OWN)[f"{name}.json"])
    return read


def test_a_dashboard_is_of_grafanas_schema(document: dict[str, Any]) -> None:
    """Read into the types that are generated from Grafana's schema and written again, it is the same.

    Except what these types do not know: the SQL of an annotation.
    """
    for annotation in document["annotations"].get("list", []):
        del annotation["target"]
    read = Dashboard.from_json(json.loads(json.dumps(document)))
    assert json.loads(json.dumps(read, cls=JSONEncoder)) == document
    assert document["schemaVersion"] == 41


def test_panels_have_titles_and_places_of_their_own(document: dict[str, Any]) -> None:
    """Every panel says what it shows; none lies on another or beyond the right edge."""
    taken: set[tuple[int, int]] = set()
    for panel in document["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_what_a_query_names_is_declared_before(document: dict[str, Any]) -> None:
    """Each variable in a query or title is one of the dashboard's; one that another's query names stands before it."""
    known: set[str] = set(OF_GRAFANA)
    for variable in document["templating"]["list"]:
        assert named(variable["query"]) <= known, variable["name"]
        assert variable["name"] not in known
        known.add(variable["name"])
    for place, sql in queries(document):
        assert named(sql) | named(place) <= known, place


@pytest.mark.parametrize("name", ["funnel", "step", "alerts"])
def test_each_dimension_is_a_filter_of_several_values(name: str) -> None:
    """Of all of them at first, which is one word in SQL; a dimension never takes a variable of the dashboard's own."""
    found = json.loads(documents(OWN)[f"{name}.json"])["templating"]["list"]
    by_name = {one["name"]: one for one in found}
    assert len(by_name) == len(found)
    assert [one["name"] for one in found if one.get("allValue") == "NULL" and one["name"] != "step"] == [
        "country",
        "plan",
        "os",
        "BY",
        "LEVEL",
    ]
    for dimension in OWN:
        variable = by_name[variable_of(dimension)]
        assert (variable["multi"], variable["includeAll"], variable["current"]["value"]) == (True, True, ["$__all"])
        assert f"dimensions ->> '{dimension}'" in variable["query"]
    assert "by" not in by_name or by_name["by"]["current"]["value"] == ["country", "plan"]


@pytest.mark.parametrize("name", ["funnel", "step"])
def test_a_panel_is_repeated_for_each_dimension_of_the_funnel(name: str) -> None:
    """By a hidden variable that no URL sets, over the whole width, three beside each other."""
    read = dashboard(name)
    [panel] = [panel for panel in read["panels"] if panel.get("repeat")]
    [variable] = [one for one in read["templating"]["list"] if one["name"] == panel["repeat"]]
    assert (variable["hide"], variable["skipUrlSync"], variable["multi"], variable["includeAll"]) == (
        2,
        True,
        True,
        True,
    )
    assert (panel["repeatDirection"], panel["maxPerRow"], panel["gridPos"]["w"]) == ("h", 3, 24)
    assert "${dimension}" in panel["title"]


def test_all_dimensions_several_funnels_are_joined_in_their_order() -> None:
    """Each stands once, where a funnel declares it first."""
    funnels = {
        "one": Funnel(("a",), ("os", "plan")),
        "two": Funnel(("b",), ("country", "os", "tier")),
        "three": Funnel(("c",), ()),
    }
    assert all_dimensions(funnels) == ("os", "plan", "country", "tier")
    assert all_dimensions({"three": funnels["three"]}) == ()
    assert set(documents(())) == {f"{name}.json" for name in NAMES}


def named(text: str) -> set[str]:
    """The variables that a text names."""
    return set(re.findall(r"\$\{(\w+)", text))


def test_no_query_is_unused() -> None:
    """Every query is asked by a panel, an annotation or a variable; every fragment stands in a query or a fragment."""
    asked = {sql for name in NAMES for _, sql in queries(dashboard(name))}
    asked |= {variable["query"] for name in NAMES for variable in dashboard(name)["templating"]["list"]}
    made = Statements(DIMENSION_FIELDS)
    possible = {name: {made.of(name, by=by, dimension="os") for by in ("by", "dimension")} for name in QUERIES}
    assert {name for name, texts in possible.items() if not texts & asked} == set()
    texts = " ".join([*QUERIES.values(), *FRAGMENTS.values()])
    assert set(FRAGMENTS) - set(re.findall(r"@(\w+)", texts)) == {"choice", "link", "with_gaps"}


def test_every_data_source_is_provisioned() -> None:
    """What panels ask by uid is what the provisioning file makes, of the same type; no password stands there."""
    text = (GRAFANA / "provisioning" / "datasources" / "funnelwatch.yml").read_text()
    provisioned = {(source["uid"], source["type"]): source for source in YAML(typ="safe").load(text)["datasources"]}
    assert {source for name in NAMES for source in sources(dashboard(name))} == set(provisioned)
    database = provisioned["funnelwatch", "grafana-postgresql-datasource"]
    assert database["secureJsonData"] == {"password": "$FUNNELWATCH_GRAFANA_DATABASE_PASSWORD"}


def sources(part: Any) -> set[tuple[str, str]]:
    """Every data source that a part of a dashboard names."""
    if isinstance(part, list):
        return set().union(*map(sources, part)) if part else set()
    if not isinstance(part, dict):
        return set()
    own = {(part["datasource"]["uid"], part["datasource"]["type"])} if "datasource" in part else set()
    return own.union(*map(sources, part.values()))


def test_every_metric_that_is_asked_for_is_one_that_workers_have() -> None:
    """With its labels: a renamed metric must not leave an empty panel."""
    assert ages
    known: dict[str, set[str]] = {}
    for collector in list(metrics.REGISTRY._collector_to_names):
        for name in metrics.REGISTRY._collector_to_names[collector]:
            known[name] = {*getattr(collector, "_labelnames", LABELS.get(name, ())), "le"}
    expressions = [
        (target["expr"], target["legendFormat"])
        for panel in dashboard("pipeline")["panels"]
        for target in panel["targets"]
        if "expr" in target
    ]
    assert len(expressions) >= 8
    for expression, legend in expressions:
        [metric] = re.findall(r"funnelwatch_\w+", expression)
        assert metric in known, metric
        labels = set(re.findall(r"by \((\w+)\)", expression)) | set(re.findall(r"\{\{(\w+)\}\}", legend))
        assert labels <= known[metric], expression


def test_no_colour_comes_from_grafanas_own_thresholds() -> None:
    """These are green below 80 and red above: "1 firing" was green and "accepted 1.9 Mil" red."""
    panels = {panel["title"]: panel for name in NAMES for panel in dashboard(name)["panels"]}
    steps = {title: panel["fieldConfig"]["defaults"]["thresholds"]["steps"] for title, panel in panels.items()}

    assert [(one["value"], one["color"]) for one in steps["Firing now"]] == [(None, "green"), (1.0, "red")]
    assert [one["color"] for one in steps["Records"]] == ["text"]
    assert panels["Records"]["fieldConfig"]["defaults"]["color"] == {"mode": "fixed", "fixedColor": "text"}
    assert [one["color"] for one in steps["Newest closed window"]] == ["green", "orange", "red"]
    assert all(one[0]["value"] is None for one in steps.values())
    assert not [title for title, one in steps.items() if any(step["value"] == 80 for step in one)]


def test_a_url_cannot_ask_for_another_level_than_the_range_calls_for() -> None:
    """The variable is hidden, out of the URL, and asked for again with every range."""
    for name in NAMES:
        [level] = [one for one in dashboard(name)["templating"]["list"] if one["name"] == "level"]
        assert (level["skipUrlSync"], level["hide"], level["refresh"]) == (True, 2, 2)


@pytest.mark.parametrize("dimensions", [DIMENSION_FIELDS, OWN, ()])
def test_an_alert_links_to_its_step_at_its_time(dimensions: tuple[str, ...]) -> None:
    """The link names a dashboard that is there, its variables but those for looking, and columns that the table has."""
    made = {name: json.loads(text) for name, text in documents(dimensions).items()}
    url = at_its_time(dimensions)
    path, _, given = url.partition("?")
    step = made["step.json"]
    assert path == f"/d/{step['uid']}"
    variables = {variable["name"] for variable in step["templating"]["list"]}
    assert set(re.findall(r"var-(\w+)=", given)) == variables - {"level", "dimension", "by"}
    columns = set(re.findall(r"__data\.fields\.(\w+)", given))
    table_sql = Statements(dimensions).of("alerts_table")
    assert columns == {"funnel", "step", "from_ms", "to_ms"} | {f"of_{one}" for one in dimensions}
    assert all(re.search(rf"(AS |^    ){column}\b", table_sql, re.MULTILINE) for column in columns)
    [table] = [panel for panel in made["alerts.json"]["panels"] if panel["title"] == "Alerts"]
    assert [link["url"] for link in table["fieldConfig"]["defaults"]["links"]] == [url]


def test_grafana_finds_each_folder_that_it_looks_into() -> None:
    """One that is not there is an error in its log at every start, also if nothing is to be in it."""
    folders = {folder.name for folder in (GRAFANA / "provisioning").iterdir()}
    assert folders == {"alerting", "dashboards", "datasources", "plugins"}


def test_a_number_is_shown_of_each_row() -> None:
    """Of several funnels the one that is behind must be among those shown; Grafana's own choice is the last row."""
    numbers = [panel for name in NAMES for panel in dashboard(name)["panels"] if panel["type"] == "stat"]
    assert len(numbers) >= 3
    assert [panel["title"] for panel in numbers if not panel["options"]["reduceOptions"].get("values")] == []


def test_dashboards_are_told_apart() -> None:
    """Each has a uid of its own, which links and bookmarks keep."""
    uids = sorted(dashboard(name)["uid"] for name in NAMES)
    assert all(one != other for one, other in pairwise(uids))


def test_a_frame_may_show_grafana_and_nobody_signs_up() -> None:
    """What docs/grafana.md promises of grafana.ini; that it is said there what it opens up."""
    settings = (GRAFANA / "grafana.ini").read_text()
    assert re.search(r"^allow_embedding = true$", settings, re.MULTILINE)
    assert "frame-ancestors 'self'" in settings
    page = (Path(__file__).parents[2] / "docs" / "grafana.md").read_text()
    assert "allow_embedding" in page
    assert "frame-ancestors" in page


def test_the_pictures_in_the_docs_show_the_dashboards_as_they_are() -> None:
    """``python -m funnelwatch.deploy.grafana`` would change no picture; each has the titles of all panels, escaped."""
    for name, picture in pictures().items():
        assert (DOCS / name).read_text() == picture
        dashboard = json.loads((FOLDER / name.removeprefix("grafana-").replace(".svg", ".json")).read_text())
        shown = {text.text for text in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")}
        assert {panel["title"] for panel in dashboard["panels"]} <= shown
