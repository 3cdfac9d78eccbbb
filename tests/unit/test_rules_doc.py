"""The examples of docs/rules.md are run as they stand there."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from click.testing import CliRunner

from funnelwatch.cli.rules import rules as command

if TYPE_CHECKING:
    import pytest

DOC = (Path(__file__).parents[2] / "docs" / "rules.md").read_text()
YAML = re.findall(r"^```yaml\n(.*?)^```", DOC, re.MULTILINE | re.DOTALL)


def example(begin: str) -> str:
    """The one YAML block that begins so."""
    (found,) = [block for block in YAML if block.startswith(begin)]
    return str(found)


def test_the_documented_test_passes_on_the_documented_rule(tmp_path: Path) -> None:
    """Copied into two files, and run."""
    (tmp_path / "sms.yml").write_text(example("groups:"))
    path = tmp_path / "sms.test.yml"
    path.write_text(example("# sms.test.yml"))
    result = CliRunner().invoke(command, ["test", str(path)])

    assert (result.exit_code, result.output) == (0, "1 passed, 0 failed\n")


def test_the_documented_backtest_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the header and the names of files that the page shows, and the fields of its JSON."""
    head, row = re.search(r"^(window_start,.*)\n(2026-.*)$", DOC, re.MULTILINE).groups()  # type: ignore[union-attr]
    (line,) = re.findall(r"^funnelwatch rules (backtest .*)$", DOC, re.MULTILINE)
    begin = datetime.fromisoformat(row.split(",")[0])
    assert begin == datetime(2026, 1, 5, tzinfo=UTC)
    rng = np.random.default_rng(1)
    hit = 21 * 24 + 12
    rows = [row]
    for hour in range(1, 23 * 24):
        time = (begin + timedelta(hours=hour)).isoformat()
        rows.append(
            f"{time},sign_up,VERIFY_SMS_CODE,iOS,212,{rng.binomial(212, 0.4 if hit <= hour < hit + 3 else 0.8)}"
        )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counts.csv").write_text("\n".join([head, *rows]))
    start, end = (begin + timedelta(hours=hour) for hour in (hit, hit + 3))
    (tmp_path / "incidents.csv").write_text(f"start,end\n{start.isoformat()},{end.isoformat()}\n")
    (tmp_path / "sms.yml").write_text(example("groups:"))
    result = CliRunner().invoke(command, [*line.split(), "--json"])

    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert [one["delay_windows"] for one in answer["incidents"]] == [1]
    told = DOC[DOC.index("With `--json`: `alerts`") :]
    told = told[: told.index("\n\n")]
    for name in ("precision", "recall", "delay_p50_windows", "delay_p90_windows", "curve", "incidents_left_out"):
        assert f"`{name}`" in told
        assert name in answer
    for name in ("start", "end", "series", "score", "reason", "severity", "verdict", "incident"):
        assert f"`{name}`" in told
        assert name in answer["alerts"][0]


def test_the_documented_rules_about_metrics_can_be_used(tmp_path: Path) -> None:
    """Copied into a file, and checked."""
    path = tmp_path / "metrics.yml"
    path.write_text(example("# metrics.yml"))
    result = CliRunner().invoke(command, ["check", str(path)])

    assert result.exit_code == 0, result.output
