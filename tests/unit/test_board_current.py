"""What the board says above its figures: pure, no server."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from funnelwatch.schemas.freshness import FunnelSeen, WorkerSeen
from funnelwatch.web.board.current import current
from funnelwatch.web.board.record import Record
from funnelwatch.web.board.source import Source

NOW = 1_795_716_900_000  # 2026-11-26 18:15:00 UTC
MINUTE = 60_000
FUNNEL = "sign_up"
SEEN = FunnelSeen(FUNNEL, NOW, closed_through_ms=NOW - MINUTE, closed_at_ms=NOW - 40_000)
WORKER = WorkerSeen("a", 7, "1.0", 4, None, ended=False, seen_ms=NOW - 2_000, age_s=2.0)
RECORD = Record(MINUTE, at_ms=NOW - 1_000, workers=(WORKER,), funnels={FUNNEL: SEEN})
REJECTED = "connection refused."


def said(record: Record = RECORD, *, lag_known: bool = True, now: int = NOW, **errors: Any) -> tuple[str, str]:
    """State and sentence, with servers that do not answer."""
    answered = {"Kafka": NOW - 43_000, "Redis": None}
    found = current(record, FUNNEL, errors, answered, now, stale_ms=180_000, lag_known=lag_known)
    return found.state, found.message


def test_only_with_all_servers_a_worker_and_a_known_lag_figures_are_fresh() -> None:
    """Everything answers."""
    assert said() == ("fresh", "Windows are complete up to 18:14:00")


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ({"TimescaleDB": REJECTED}, "The database has not answered since 18:14:59 (1 s): nobody knows"),
        ({"Kafka": REJECTED}, "Kafka has not answered since 18:14:17 (43 s): nobody knows"),
        ({"Redis": "Redis is empty"}, "Redis is empty: these figures come from the database, complete up to 18:14:00"),
        ({"TimescaleDB": REJECTED, "Kafka": REJECTED, "Redis": REJECTED}, "The database has not answered"),
    ],
)
def test_a_server_that_is_away_makes_figures_unknown(errors: dict[str, str], words: str) -> None:
    """With its name; the database first, since everything rests on it."""
    state, message = said(**errors)
    assert (state, message.startswith(words)) == ("unknown", True), message


def test_a_lag_that_nobody_tells_makes_figures_unknown() -> None:
    """The topic does not exist, or was not asked for yet."""
    assert said(lag_known=False)[0] == "unknown"


def test_old_figures_are_stale_whoever_else_is_away() -> None:
    """That Kafka is away as well is said in the list of servers."""
    old = replace(SEEN, closed_through_ms=NOW - 12 * MINUTE, closed_at_ms=NOW - 12 * MINUTE)
    state, message = said(replace(RECORD, at_ms=NOW, funnels={FUNNEL: old}), Kafka=REJECTED)
    assert (state, message) == ("stale", "No window has closed since 18:03:00 (12 min): these figures are old")


def test_a_database_that_hangs_ages_what_it_said() -> None:
    """It has not failed, it has said nothing more: eight minutes later nothing of before is fresh."""
    assert said(now=NOW + 8 * MINUTE)[0] == "stale"


def test_a_funnel_that_nobody_knows_is_unknown() -> None:
    """Before the first look, and when it has no counts."""
    assert said(Record(MINUTE)) == ("unknown", "The database has not been read yet")
    assert said(replace(RECORD, funnels={})) == ("unknown", "Nothing of sign_up was ever counted")


def test_a_source_that_neither_answers_nor_fails_hangs() -> None:
    """It is told after a while; a failure has words of its own."""
    source = Source("s", lambda: 1, 0, every_s=1, needed=lambda: False)
    assert source.silence(NOW, 15_000) is None
    source.answered_ms = NOW - 20_000
    assert source.silence(NOW, 15_000) == "no answer for 20 s"
    source.error = "rejected"
    assert source.silence(NOW, 15_000) is None
