"""The query API under requests that schemathesis makes from its own description, most of them wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.funnels import BUILT_IN
from funnelwatch.schemas.metric_counts import MetricSeries
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.declared import declare
from funnelwatch.sinks.timescale.migrations import migrate
from tests.any_dimension import Counted, insert_counts
from tests.filling import MINUTE_MS, count_metrics
from tests.web import served

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

# Which times a calendar has, and which spans are whole windows, a schema cannot say: what fits it may be rejected.
OPTIONS = (
    "--checks=all",
    "--exclude-checks=positive_data_acceptance",
    "--phases=examples,coverage,fuzzing",
    "--max-examples=10",  # bounded by work, not by time: a busy machine makes the same requests
    "--max-failures=5",
    "--seed=1",  # and the same ones everywhere
)


DIMENSIONS = {"country": "DE", "plan": "paid", "carrier": "o2", "campaign": "a,b", "experiment": "=1"}
"""Of an older declaration of the funnel, which has the default ones now."""


def with_these_dimensions(document: Any) -> Any:
    """The description for a funnel that has these dimensions, so that requests name dimensions that there are."""
    names = [*DIMENSIONS, "os", "browser", "app_version"]
    for path in ("rates", "counts", "timers", "funnel"):
        parameters = {one["name"]: one for one in document["paths"][f"/api/v1/{path}"]["get"]["parameters"]}
        parameters["by"]["schema"]["items"] = {"type": "string", "enum": [*names, "country,os", ",".join(DIMENSIONS)]}
        parameters["dimension"]["schema"]["propertyNames"] = {"enum": names}
        parameters["dimension"]["example"] = DIMENSIONS
    return document


def test_no_request_makes_the_api_fail_and_every_answer_is_as_described(settings: Settings, tmp_path: Path) -> None:
    """Status, media type and body of each answer are as described, what is wrong is rejected, and there is no 500."""
    now = wall_clock_ms() // MINUTE_MS * MINUTE_MS
    with closing(Database(settings.timescale_url)) as database:
        migrate(database, settings.window_ms)
        rows = [
            Counted(now - ago * MINUTE_MS, step, dimensions, 100, 80, 15, 80, 15, 70, 60, 50, 40, [3, 7])
            for ago in (1, 9)
            for step in ("INPUT_NAME", "VERIFY_SMS_CODE")
            for dimensions in (DIMENSIONS, {"os": "iOS", "country": "AT"})
        ]
        insert_counts(database, "sign_up", rows, now)
        declare(database, BUILT_IN)
        count_metrics(database, [(wall_clock_ms(), MetricSeries.of("sms_sent", "COUNTER", {"os": "iOS"}), 3)])
    program, described, report = Path(sys.executable).with_name("schemathesis"), tmp_path / "api.json", tmp_path / "har"
    with served(settings) as api:
        described.write_text(json.dumps(with_these_dimensions(api.get("/api/v1/openapi.json").json)))
        command = [program, "run", described, "--url", api.url, "--report-har-path", report, *OPTIONS]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500)
        statuses = api.get("/metrics").text
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for path in ("rates", "counts", "timers", "funnel", "alerts", "funnels", "metrics", "metrics/{name}"):
        assert f'route="/api/v1/{path}",status="200"' in statuses, statuses
    answered = [
        urlsplit(one["request"]["url"])
        for one in json.loads(report.read_text())["log"]["entries"]
        if one["response"]["status"] == 200
    ]
    for path in ("rates", "counts", "timers", "funnel"):
        queries = [parse_qs(url.query) for url in answered if url.path == f"/api/v1/{path}"]
        grouped = {name for query in queries for names in query.get("by", ()) for name in names.split(",")}
        selected = {name for query in queries for name in query}
        assert grouped >= DIMENSIONS.keys(), grouped
        assert selected >= DIMENSIONS.keys(), selected
