"""The query API under requests that schemathesis makes from its own description, most of them wrong."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from funnelwatch.schemas.clock import wall_clock_ms
from funnelwatch.schemas.metric_counts import MetricSeries
from funnelwatch.sinks.timescale.database import Database
from tests.filling import MINUTE_MS, count, count_metrics
from tests.web import served

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

T = 1_794_996_000_000


# Which times a calendar has, and which spans are whole windows, a schema cannot say: what fits it may be rejected.
OPTIONS = (
    "--checks=all",
    "--exclude-checks=positive_data_acceptance",
    "--phases=examples,coverage,fuzzing",
    "--max-examples=10",  # bounded by work, not by time: a busy machine makes the same requests
    "--max-failures=5",
    "--seed=1",  # and the same ones everywhere
)


def test_no_request_makes_the_api_fail_and_every_answer_is_as_described(settings: Settings, tmp_path: Path) -> None:
    """Status, media type and body of each answer are as described, what is wrong is rejected, and there is no 500."""
    count(settings, {(T, "VERIFY_SMS_CODE", "iOS", "", "1.0"): (100, 80, 15)}, closed_through=T + MINUTE_MS)
    with closing(Database(settings.timescale_url)) as database:
        count_metrics(database, [(wall_clock_ms(), MetricSeries.of("sms_sent", "COUNTER", {"os": "iOS"}), 3)])
    program = Path(sys.executable).with_name("schemathesis")
    with served(settings) as api:
        command = [program, "run", f"{api.url}/api/v1/openapi.json", *OPTIONS]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=500)
        statuses = api.get("/metrics").text
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    for path in ("rates", "counts", "timers", "alerts", "funnels", "metrics", "metrics/{name}"):
        assert f'route="/api/v1/{path}",status="200"' in statuses, statuses
