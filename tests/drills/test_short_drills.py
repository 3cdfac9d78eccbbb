"""Every drill in its short form, on one stack of their own; and a drill that must fail, to test the comparison."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from funnelwatch.sinks import failpoints
from tests.drills.catalog import DRILLS
from tests.drills.drill import Drill, run_drill
from tests.drills.plan import Plan, short
from tests.drills.servers import Servers
from tests.stack import not_on_tansu
from tests.worker import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.drills.drill import Run

pytestmark = not_on_tansu("keeps no guarantees")

SEED = 20


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Apache Kafka, PostgreSQL and Redis that may be killed."""
    with Servers("apache", print) as running:
        yield running


@pytest.mark.parametrize("name", list(DRILLS))
def test_nothing_is_lost_double_or_wrong_in_the_drill(name: str, servers: Servers) -> None:
    """Ledger and stores agree key by key, no alert comes twice, no worker ends by itself."""
    result = run_drill(DRILLS[name], short(Plan(seed=SEED)), servers, print)
    assert result["ok"], json.dumps(result)
    assert result["faults"], json.dumps(result)
    assert result["events"] > 3_000


def tamper(run: Run) -> None:
    """Do behind the pipeline's back what it promises never to do."""
    run.until(lambda: run.watch.seen.lag < 500 and sum(run.watch.seen.progress.values()) > 1_000, 120)
    run.sql(
        "UPDATE window_counts SET impressions = impressions + 1 WHERE (window_start, series_id) ="
        " (SELECT window_start, series_id FROM window_counts WHERE impressions > 0 ORDER BY 1, 2 LIMIT 1)"
    )
    run.sql(
        "UPDATE window_counts SET successes = successes - 1 WHERE (window_start, series_id) ="
        " (SELECT window_start, series_id FROM window_counts WHERE successes > 0 ORDER BY 1, 2 LIMIT 1)"
    )
    run.sql(
        "UPDATE window_counts SET d7 = coalesce(d7, 0) + 1 WHERE (window_start, series_id) ="
        " (SELECT window_start, series_id FROM window_counts ORDER BY 1, 2 LIMIT 1)"
    )
    run.sql(
        "UPDATE window_counts SET completed = completed + 1 WHERE (window_start, series_id) ="
        " (SELECT window_start, series_id FROM window_counts WHERE reached > completed ORDER BY 1, 2 LIMIT 1)"
    )
    run.count("tampered")


def test_a_drill_notices_one_event_too_many_and_one_too_few(servers: Servers) -> None:
    """One count raised, one lowered, a duration and a session added: one double, one lost, and the others are named."""
    drill = Drill("tampered", "counts are changed by hand", tamper, faults=1)
    result = run_drill(drill, replace(short(Plan(seed=SEED)), events=3_000, idle_limit_s=45.0), servers, print)
    assert not result["ok"]
    assert (result["lost"], result["double"]) == (1, 1), json.dumps(result)
    for what in ("durations of", "sessions, session_successes, reached, completed of"):
        assert sum(note.startswith(what) for note in result["notes"]) == 1, json.dumps(result)


def test_every_failpoint_is_somewhere_in_the_code() -> None:
    """No drill arms a point that no worker can come to, and no point is unknown to the drills."""
    code = "".join(path.read_text() for room in ("stream", "sinks") for path in (ROOT / room).rglob("*.py"))
    for name in failpoints.POINTS:
        assert code.count(f'failpoint("{name}")') == 1, name
    assert code.count('failpoint("') == len(failpoints.POINTS)
