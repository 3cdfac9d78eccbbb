"""The clickstream with two documented incidents through the real pipeline: both are told, and nothing else."""

from __future__ import annotations

import csv
import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import funnelwatch.alert_rules
from funnelwatch.schemas.codec import Decoder
from tests.command import succeed_json
from tests.ecom import ecom_path
from tests.stack import wait_until
from tests.traffic import everything, totals
from tests.worker import worker

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

DAY_MS = 86_400_000
THIN = Path(funnelwatch.alert_rules.__file__).parent / "examples" / "thin.yml"
LAST_DAY = "2024-06-28"


def day(ms: int) -> str:
    """The day of a time, ISO 8601."""
    return datetime.fromtimestamp(ms / 1000, tz=UTC).date().isoformat()


def by_time(source: Path, target: Path) -> Path:
    """The same rows in the order of their timestamps: the file has them by user, and a live stream would not."""
    with gzip.open(source, "rt", encoding="utf-8", newline="") as text:
        head, *rows = list(csv.reader(text))
    at = head.index("timestamp")
    with target.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([head, *sorted(rows, key=lambda row: row[at])])
    return target


def told(settings: Settings) -> list[dict[str, Any]]:
    """The first message of every alert, oldest first."""
    decode = Decoder("Alert")
    found = [decode(message.value()) for message in everything(settings, settings.alerts_topic)]
    first = {one["alert_id"]: one for one in found if one["sequence"] == 0}
    return sorted(first.values(), key=lambda one: one["window_start"])


def evaluated_through(settings: Settings) -> str:
    """The newest closed window."""
    decode = Decoder("ClosedWindow")
    starts = [decode(one.value())["window_start"] for one in everything(settings, settings.windows_topic)]
    return day(max(starts)) if starts else ""


def test_the_two_documented_incidents_are_told_and_nothing_else(settings: Settings, tmp_path: Path) -> None:
    """The checkout bug on mobile, the payment failure, each within its dates; nothing at shipping on desktop."""
    daily = settings.model_copy(update={"window_s": 86_400, "rules_path": THIN})
    ordered = by_time(ecom_path(), tmp_path / "ecom.csv")
    produced = succeed_json(daily, "produce", str(ordered), "--map", "ecom")["produced"]
    with worker(daily) as running:
        running.wait_assigned()
        wait_until(lambda: totals(daily)["accepted"] == produced, "all clicks are counted", 120)
        wait_until(lambda: evaluated_through(daily) >= LAST_DAY, f"all days are closed {running.text()}", 90)
        wait_until(lambda: len(told(daily)) >= 2 or not running.running, f"alerts are told {running.text()}", 120)
    alerts = told(daily)
    assert [(one["step"], one["dimensions"]) for one in alerts] == [("shipping", {"os": "Mobile"}), ("payment", {})]
    bug, gateway = alerts
    assert "2024-04-09" <= day(bug["window_start"]) <= "2024-05-09"
    assert "2024-05-19" <= day(gateway["window_start"]) <= "2024-06-07"
    assert bug["rate"] < 0.6 * bug["expected_rate"]
    assert gateway["rate"] < 0.6 * gateway["expected_rate"]
