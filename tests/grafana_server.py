"""A real Grafana with what ``deploy/grafana`` provisions, where this machine has one, and what its pages ask of it."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from funnelwatch.deploy.embedded.ports import HOST, free_port
from tests.grafana import FOLDER
from tests.programs import answers
from tests.stack import wait_until
from tests.web import Reply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.grafana import View

INSTALLED = Path("/usr/share/grafana")
"""Where Grafana's packages and its image put what the program needs beside it."""

NEEDED = pytest.mark.skipif(
    shutil.which("grafana") is None,
    reason="NOT TESTED: `grafana` is not on PATH, so no Grafana was run with the files of deploy/grafana",
)
"""Marks a test that cannot be run without the program."""

ADMIN = ("admin", "an admin's password")
START_TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Frame:
    """A query's answer."""

    sent: str
    """The SQL that the server sent to the database."""
    types: dict[str, str]
    """Name of each column to Grafana's type of it: time, number, string, boolean."""
    columns: list[list[Any]]

    def rows(self) -> list[dict[str, Any]]:
        """As of a table; times in ms."""
        return [dict(zip(self.types, row, strict=True)) for row in zip(*self.columns, strict=True)]

    def points(self) -> dict[tuple[str, int], float]:
        """As of lines: name and time to value, where there is one."""
        times, *_ = (values for values, kind in zip(self.columns, self.types.values(), strict=True) if kind == "time")
        return {
            (name, time): value
            for name, values in zip(self.types, self.columns, strict=True)
            if self.types[name] != "time"
            for time, value in zip(times, values, strict=True)
            if value is not None
        }


class RejectedError(Exception):
    """Grafana's answer to a query is an error; names it."""


@dataclass(frozen=True)
class Grafana:
    """A Grafana that runs."""

    url: str
    log: Path

    def ask(self, method: str, path: str, body: object = None, *, login: tuple[str, str] | None = ADMIN) -> Reply:
        """What its API answers; ``login``: name and password, None for nobody."""
        headers = {"Content-Type": "application/json"}
        if login:
            headers["Authorization"] = "Basic " + base64.b64encode(":".join(login).encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read().decode())

    def frames(self, from_ms: int, to_ms: int, target: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What a query gets in a range, as JSON.

        Raises:
            RejectedError: the query fails.
        """
        query = {**target, "refId": "A", "intervalMs": 60_000, "maxDataPoints": 1_000}
        reply = self.ask("POST", "/api/ds/query", {"from": str(from_ms), "to": str(to_ms), "queries": [query]})
        if reply.status != 200:
            raise RejectedError(reply.text)
        frames: list[dict[str, Any]] = reply.json["results"]["A"]["frames"]
        return frames

    def query(self, view: View, target: Mapping[str, Any], *, source: str | None = None) -> Frame:
        """What a panel's, a variable's or an annotation's SQL gets, asked as Grafana's page asks it.

        Args:
            view: range, and what is chosen.
            target: the query as it stands in the dashboard.
            source: uid of another data source of the same type.

        Raises:
            RejectedError: the query fails.
        """
        asked = {**target, "rawSql": view.interpolate(target["rawSql"])}
        if source:
            asked["datasource"] = {**target["datasource"], "uid": source}
        [frame] = self.frames(view.from_ms, view.to_ms, asked)
        fields = frame["schema"]["fields"]
        return Frame(
            frame["schema"].get("meta", {}).get("executedQueryString", ""),
            {field["name"]: field["type"] for field in fields},
            frame["data"]["values"],
        )


@contextmanager
def grafana(folder: Path, database_url: str, login: tuple[str, str], prometheus_url: str) -> Iterator[Grafana]:
    """Grafana with the files of ``deploy/grafana``, told by its environment as docs/grafana.md says.

    Args:
        folder: for its data and its log.
        database_url: PostgreSQL.
        login: name and password there.
        prometheus_url: of its other data source.
    """
    program = shutil.which("grafana")
    assert program is not None
    address = urlsplit(database_url)
    port = free_port()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("GF_", "FUNNELWATCH_"))
    } | {
        "GF_SERVER_HTTP_ADDR": HOST,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_SECURITY_ADMIN_PASSWORD": ADMIN[1],
        "GF_PATHS_DATA": str(folder / "data"),
        "GF_PATHS_LOGS": str(folder / "logs"),
        "GF_PATHS_PLUGINS": str(folder / "plugins"),
        # It would fetch them from grafana.com.
        "GF_PLUGINS_PREINSTALL_DISABLED": "true",
        "GF_PATHS_PROVISIONING": str(FOLDER.parent / "provisioning"),
        "FUNNELWATCH_GRAFANA_DASHBOARDS": str(FOLDER),
        "FUNNELWATCH_GRAFANA_DATABASE_HOST": f"{address.hostname}:{address.port}",
        "FUNNELWATCH_GRAFANA_DATABASE_NAME": address.path.removeprefix("/"),
        "FUNNELWATCH_GRAFANA_DATABASE_USER": login[0],
        "FUNNELWATCH_GRAFANA_DATABASE_PASSWORD": login[1],
        "FUNNELWATCH_GRAFANA_DATABASE_SSLMODE": "disable",
        "FUNNELWATCH_GRAFANA_PROMETHEUS_URL": prometheus_url,
    }
    home = Path(program).resolve().parents[1]
    options = ["--homepath", str(home if (home / "conf" / "defaults.ini").exists() else INSTALLED)]
    options += ["--config", str(FOLDER.parent / "grafana.ini")]
    log = folder / "grafana.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "server", *options], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    running = Grafana(f"http://{HOST}:{port}", log)
    try:
        wait_until(
            lambda: process.poll() is not None or answers(f"{running.url}/api/health"),
            "Grafana serves",
            START_TIMEOUT_S,
        )
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)
