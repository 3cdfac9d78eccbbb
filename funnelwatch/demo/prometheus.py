"""Where this machine has Prometheus, the demo shows that its numbers agree with SQL."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from prometheus_client import CollectorRegistry, start_http_server

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.schemas.web_client import Unanswered, ask
from funnelwatch.sinks.errors import is_transient
from funnelwatch.sinks.exporter.collector import BY, FunnelCollector
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.totals import TotalsStore

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

AGREE_WITHIN_S = 60.0
END_S = 10.0
MAX_SERIES = 1_000
RATE_OVER_S = 300.0
ROUNDING = 1e-9

CONFIG = """\
global: {{scrape_interval: 1s}}
scrape_configs: [{{job_name: funnelwatch-exporter, static_configs: [{{targets: ["{target}"]}}]}}]
"""
RATE = "sum by (step) (funnelwatch_funnel_successes_total) / sum by (step) (funnelwatch_funnel_impressions_total)"


class Prometheus:
    """A Prometheus that scrapes an exporter of the demo's database; started when it is made.

    Args:
        program: where it is.
        timescale_url: the database.
        folder: for its configuration, data and log; made.
    """

    def __init__(self, program: str, timescale_url: str | SecretStr, folder: Path) -> None:
        self._database = Database(timescale_url, application="funnelwatch demo")
        self._store = TotalsStore(self._database)
        registry = CollectorRegistry()
        registry.register(FunnelCollector(lambda: self._store.read(RATE_OVER_S, BY), is_transient, MAX_SERIES))
        self._server, self._thread = start_http_server(0, HOST, registry)
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "prometheus.yml"
        config.write_text(CONFIG.format(target=f"{HOST}:{self._server.server_port}"))
        self._url = f"http://{HOST}:{free_port()}"
        address = self._url.removeprefix("http://")
        with (folder / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program of this machine
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={folder}",
                    f"--web.listen-address={address}",
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def agreement(self) -> dict[str, Any]:
        """Whether the conversion rate of every step is that of SQL; waits for a scrape of what is counted now."""
        database = Database(self._database.url)
        expected = {row["step"]: row["rate"] for row in database.query("rates_by_step")}
        database.close()
        limit = time.monotonic() + AGREE_WITHIN_S
        found = self._rates()
        while not _same(found, expected) and time.monotonic() < limit:
            time.sleep(0.5)
            found = self._rates()
        return {"agrees": _same(found, expected), "promql": RATE, "prometheus": found, "sql": expected}

    def stop(self) -> None:
        """End it, and the exporter."""
        self._process.terminate()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(END_S)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._database.close()

    def _rates(self) -> dict[str, float]:
        try:
            page = f"{self._url}/api/v1/query?{urlencode({'query': RATE})}"
            reply = ask(page, timeout_s=5)
        except Unanswered:
            return {}
        if reply.status != HTTPStatus.OK:
            return {}
        result = json.loads(reply.body)["data"]["result"]
        return {one["metric"]["step"]: float(one["value"][1]) for one in result}


def find_prometheus() -> str | None:
    """Where the program is; None: not on this machine."""
    return shutil.which("prometheus")


def _same(found: dict[str, float], expected: dict[str, float]) -> bool:
    return found.keys() == expected.keys() and all(abs(found[step] - expected[step]) < ROUNDING for step in expected)
