"""Real input: the events that the shipped mapping makes of a shop's clickstream."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime

from funnelwatch.producers.files.importing import Account, events_of
from funnelwatch.producers.files.mapper import Mapper
from funnelwatch.producers.files.mapping import load_mapping
from funnelwatch.schemas.files import HERE
from tests.ecom import Key, ecom_counts, ecom_path

MAPPING = HERE.parent / "producers" / "mappings" / "ecom.yml"
DAY_MS = 86_400_000


def counted(window_ms: int) -> tuple[dict[Key, Counter[str]], Account]:
    """The mapping's events, counted per window."""
    account = Account()
    counts: dict[Key, Counter[str]] = defaultdict(Counter)
    names = {None: "impressions", "SUCCESS": "successes", "FAILURE": "failures"}
    for event in events_of([str(ecom_path())], Mapper(load_mapping(MAPPING)), account):
        at = [(names[event["status"]], event["ts"])]
        if event["status"]:
            at.append((f"cohort_{names[event['status']]}", event["ts"] - event["duration_ms"]))
        for name, ts in at:
            counts[Key(ts // window_ms * window_ms, event["step"], event["os"])][name] += 1
    return counts, account


def test_every_count_equals_an_independent_group_by() -> None:
    """Per minute, step and os, on both bases; no line is rejected and every made event is counted."""
    counts, account = counted(60_000)
    assert counts == ecom_counts(ecom_path(), 60_000)
    assert account.rejected == Counter()
    assert account.events == sum(n for count in counts.values() for name, n in count.items() if "cohort" not in name)
    assert account.events > 8_000


def test_no_step_of_a_day_converts_more_often_than_it_was_shown() -> None:
    """What once_per_session is for, on the cohort basis."""
    counts, _ = counted(DAY_MS)
    assert all(count["cohort_successes"] <= count["impressions"] for count in counts.values())


def test_the_documented_incidents_are_seen_at_their_step_and_os() -> None:
    """Payment collapses from 19 May to 7 June; shipping breaks on mobile, and not on desktop, in April and May."""

    def rate(step: str, os: str, first: str, last: str) -> float:
        start, end = (datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000 for day in (first, last))
        found = [
            count
            for key, count in counts.items()
            if key.step == step and key.os == os and start <= key.window_start <= end
        ]
        return sum(count["cohort_successes"] for count in found) / sum(count["impressions"] for count in found)

    counts, _ = counted(DAY_MS)
    for os in ("Desktop", "Mobile"):
        assert rate("payment", os, "2024-05-19", "2024-06-07") < 0.7 * rate("payment", os, "2024-01-01", "2024-05-18")
    assert rate("shipping", "Mobile", "2024-04-09", "2024-05-09") < 0.7 * rate(
        "shipping", "Mobile", "2024-01-01", "2024-04-08"
    )
    assert rate("shipping", "Desktop", "2024-04-09", "2024-05-09") > 0.8 * rate(
        "shipping", "Desktop", "2024-01-01", "2024-04-08"
    )
