"""A real Prometheus scrapes the exporter, by the configuration and rules that are shipped."""

from __future__ import annotations

import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psycopg

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.schemas.redaction import revealed
from tests import command
from tests.filling import MINUTE_MS, count
from tests.programs import answers, found, get_json, needs, program
from tests.stack import wait_until
from tests.traffic import STEPS, now_ms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from funnelwatch.schemas.settings import Settings

SHIPPED = Path(__file__).parents[2] / "deploy" / "prometheus"
TOTALS = (
    "sum by (step, os) (funnelwatch_funnel_successes_total) / sum by (step, os) (funnelwatch_funnel_impressions_total)"
)
INCREASE = (
    "sum by (step, os) (increase(funnelwatch_funnel_successes_total[1h]))"
    " / sum by (step, os) (increase(funnelwatch_funnel_impressions_total[1h]))"
)


@needs("promtool")
def test_the_shipped_configuration_and_rules_pass_promtool() -> None:
    """As promtool checks them; the rules' own tests pass, too."""
    promtool = found("promtool")
    for arguments in (
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "funnelwatch.rules.yml"),
        ("test", "rules", "funnelwatch.rules.test.yml"),
    ):
        done = subprocess.run(
            [str(promtool), *arguments], cwd=SHIPPED, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout


@contextmanager
def exporter(settings: Settings, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running exporter, which is killed in the end."""
    process = command.start(settings, "exporter", "--port", str(port), out=log)
    try:
        wait_until(lambda: process.poll() is not None or answers(f"http://{HOST}:{port}/metrics"), "it answers")
        assert process.poll() is None, log.with_name(f"{log.name}.err").read_text()
        yield process
    finally:
        process.kill()
        process.wait(60)


def query(url: str, expression: str) -> dict[tuple[str, ...], float]:
    """The values of an instant query, by step and os."""
    answer = get_json(f"{url}/api/v1/query?{urlencode({'query': expression})}")
    result: list[dict[str, Any]] = answer["data"]["result"]
    return {tuple(one["metric"].get(name, "") for name in ("step", "os")): float(one["value"][1]) for one in result}


def rates(settings: Settings, since_ms: int) -> dict[tuple[str, ...], float]:
    """The same by SQL, of the windows from then on."""
    with psycopg.connect(revealed(settings.timescale_url)) as session:
        rows = session.execute(
            "SELECT step, os, sum(successes)::float / sum(impressions) FROM conversion"
            " WHERE window_start >= to_timestamp(%s / 1000.0) GROUP BY 1, 2",
            [since_ms],
        ).fetchall()
    return {(step, os): rate for step, os, rate in rows}


def events(settings: Settings, window: int, scale: int) -> None:
    """Count some events of eight series, whose rates differ from window to window."""
    tallies = {
        (window, step, os, "", version): (scale * 10, scale * (9 - place) - scale % 7, scale)
        for place, step in enumerate(STEPS)
        for os, version in (("iOS", "1"), ("Android", "2"))
    }
    count(settings, tallies, closed_through=window + MINUTE_MS)


@needs("prometheus")
def test_prometheus_computes_the_same_conversion_rates_as_sql(settings: Settings, tmp_path: Path) -> None:
    """Totals and increases, found by file_sd; the exporter is killed meanwhile, and no reset is to be seen."""
    for name in ("prometheus.yml", "funnelwatch.rules.yml"):
        shutil.copy(SHIPPED / name, tmp_path)
    config = tmp_path / "prometheus.yml"
    config.write_text(config.read_text().replace("15s", "1s"))
    targets, port = tmp_path / "targets", free_port()
    targets.mkdir()
    start = now_ms() // MINUTE_MS * MINUTE_MS - 10 * MINUTE_MS
    events(settings, start, 1_000)
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb"]
    arguments.append(f"--web.listen-address={HOST}:{{port}}")
    with program("prometheus", tmp_path, "/-/ready", *arguments) as url:
        with exporter(settings, port, tmp_path / "exporter-1"):
            assert query(url, "up") == {}
            (targets / "exporter.yml").write_text(f"- targets: ['{HOST}:{port}']\n")
            wait_until(lambda: len(query(url, TOTALS)) == 8, "file_sd has found the exporter, and it was scraped")
            assert close(query(url, TOTALS), rates(settings, start))
        events(settings, start + 5 * MINUTE_MS, 80)
        with exporter(settings, port, tmp_path / "exporter-2") as second:
            expected = rates(settings, start)
            wait_until(lambda: close(query(url, TOTALS), expected), "the totals are those of SQL again")
            wait_until(lambda: close(query(url, INCREASE), rates(settings, start + MINUTE_MS)), "so are the increases")
            assert set(query(url, "resets(funnelwatch_funnel_successes_total[1h])").values()) == {0.0}
            wait_until(lambda: len(query(url, "funnelwatch:conversion_rate:5m")) == 8, "the rules are evaluated")
            current = query(url, "funnelwatch_funnel_conversion_rate")
            assert close(current, rates(settings, start + MINUTE_MS))
            second.send_signal(signal.SIGTERM)
            assert second.wait(60) == 0


def close(found: dict[tuple[str, ...], float], expected: dict[tuple[str, ...], float]) -> bool:
    """Whether the same series have the same values, but for rounding."""
    return found.keys() == expected.keys() and all(abs(found[key] - expected[key]) < 1e-9 for key in expected)
