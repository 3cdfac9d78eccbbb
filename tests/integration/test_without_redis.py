"""No Redis is configured: everything counts, and every reader tells the database's numbers."""

from __future__ import annotations

import json
import os
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import redis
from click.testing import CliRunner

from funnelwatch.cli.doctor_services import check_redis
from funnelwatch.cli.stack import status
from funnelwatch.demo.watch import Watch, mature_windows
from funnelwatch.format import clock
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.redis.configured import count_cache
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from tests.by_hand import counts_by_hand
from tests.command import run, succeed_json
from tests.stack import wait_until
from tests.traffic import counted, done, now_ms, prepared, produce, some_events
from tests.web import Served, served
from tests.worker import worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.deploy.embedded.stack import Stack
    from tests.stack import Servers

MINUTE_MS = 60_000
RANGE_MS = 20 * MINUTE_MS
QUICK = {"redis_url": "", "window_s": 10, "allowed_disorder_s": 0.5, "idle_timeout_s": 1.0}
EVENTS = 3_000


@pytest.fixture
def without(settings: Settings) -> Settings:
    """Settings without Redis, and the topics and tables made."""
    made = prepared(settings.model_copy(update=QUICK))
    with closing(Database(made.timescale_url)) as database:
        migrate(database, made.window_ms)
    return made


def pages(one: Served, seconds: int = 30) -> Iterator[tuple[str, Any]]:
    """The events that the board's page would be sent, with their data."""
    with urllib.request.urlopen(f"{one.url}/live?since=1h", timeout=seconds) as stream:
        name = ""
        for line in stream:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            name = value if field == "event" else name
            if field == "data":
                yield name, json.loads(value)


def test_a_worker_without_redis_counts_closes_and_evaluates_and_all_readers_agree(
    without: Settings, stack: Servers
) -> None:
    """Database, command line, API and board have the same counts; Redis is not written, and nobody complains."""
    begin = (now_ms() - RANGE_MS) // MINUTE_MS * MINUTE_MS
    events = some_events(EVENTS, begin=begin, spread_ms=RANGE_MS - 30_000)
    with worker(without) as one:
        produce(without, events)
        wait_until(lambda: done(without, len(events)) or not one.running, "all are counted", 120)
        assert counted(without) == counts_by_hand(events, without.window_ms), one.text()
        wait_until(lambda: "funnelwatch_windows_evaluated_total{" in one.get("/metrics")[1], "windows are evaluated")
        check_probes(one.get)
        with served(without) as api:
            check_board(api, begin)
            assert api.get("/readyz").json == {"database": "ok", "redis": "no Redis is configured"}
            asked = {"since": clock(begin), "until": clock(begin + RANGE_MS)}
            told = api.get("/api/v1/rates", asked).json["rows"]
        typed = succeed_json(without, "rate", "--since", asked["since"], "--until", asked["until"])["rows"]
        assert told == typed
        hand = counts_by_hand(events, without.window_ms)
        steps = {row["step"]: row["impressions"] for row in told if row["impressions"]}
        assert steps == {step: sum(n[0] for key, n in hand.items() if key[1].step == step) for step in steps}
        assert sum(steps.values()) == sum(n[0] for n in hand.values())
        check_heartbeat(without)
        assert one.stop() == 0, one.text()
        assert "Redis" not in one.text()
    with redis.Redis.from_url(stack.redis_url) as client:
        assert list(client.scan_iter(f"*{without.redis_prefix}*")) == []


def check_probes(get: Callable[[str], tuple[int, str]]) -> None:
    """Health and metrics tell that there is none: no metric of Redis is there, so that none reads as healthy."""
    code, body = get("/healthz")
    page = json.loads(body)
    assert (code, page["ok"], page["waiting"]) == (200, True, [])
    assert (page["redis_configured"], page["redis_error"]) == (False, None)
    names = {line.split(" ")[2] for line in get("/metrics")[1].splitlines() if line.startswith("# TYPE")}
    assert {name for name in names if "redis" in name or "cache" in name} == {"funnelwatch_redis_configured"}
    lines = get("/metrics")[1].splitlines()
    assert "funnelwatch_redis_configured 0.0" in lines
    assert not [line for line in lines if 'server="Redis"' in line]


def check_heartbeat(settings: Settings) -> None:
    """The worker reports no problem."""
    with psycopg.connect(revealed(settings.timescale_url)) as session:
        assert session.execute("SELECT DISTINCT error FROM worker_heartbeats").fetchall() == [(None,)]


def check_board(api: Served, begin: int) -> None:
    """The newest windows are those of the database, which is neither an error nor stale."""
    seen: dict[str, Any] = {}
    for name, page in pages(api):
        seen[name] = page
        if seen.get("now", {}).get("steps") and seen.get("health", {}).get("recorded"):
            break
    now, health = seen["now"], seen["health"]
    assert (now["source"], now["uses_redis"]) == ("database", False)
    assert [one for one in health["errors"] if one["server"] == "Redis"] == []
    assert "Redis" not in health["freshness"]["message"]
    assert now["from"] >= begin
    for step in now["steps"]:
        newest = {"since": clock(now["from"]), "until": clock(now["to"]), "step": step["step"]}
        [row] = api.get("/api/v1/rates", newest).json["rows"] or [dict.fromkeys(("impressions", "successes"), 0)]
        assert (step["impressions"], step["successes"]) == (row["impressions"], row["successes"])
    assert any(step["impressions"] for step in now["steps"])


def test_a_board_sees_that_workers_do_not_write_to_its_redis(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker counts without Redis, and the board has one that was complete before: it reads the database."""
    monkeypatch.setattr("funnelwatch.web.board.cache.BEHIND_S", 2.0)
    quick = {**QUICK, "redis_url": revealed(settings.redis_url)}
    both = prepared(settings.model_copy(update=quick))
    begin = (now_ms() - RANGE_MS) // MINUTE_MS * MINUTE_MS
    events = some_events(EVENTS, begin=begin, spread_ms=RANGE_MS - 60_000)
    newest = some_events(300, seed=1, begin=begin + RANGE_MS - 60_000, spread_ms=30_000)
    with worker(both) as one, served(both) as api:
        one.wait_assigned()
        produce(both, events)
        wait_until(lambda: done(both, len(events)) or not one.running, "all are counted", 120)
        wait_until(lambda: newest_page(api)["source"] == "redis", "Redis is complete")
        assert one.stop() == 0, one.text()
        with worker(both, redis_url="") as other:
            produce(both, newest)
            wait_until(lambda: done(both, len(events) + len(newest)) or not other.running, "all are counted", 120)
            wait_until(lambda: newest_page(api)["source"] == "database", "the board sees that Redis is behind")
            error = "Redis is behind the database: a worker does not reach it, or has no FUNNELWATCH_REDIS_URL"
            health = next(page for name, page in pages(api) if name == "health" and page["errors"])
            assert health["errors"] == [{"server": "Redis", "error": error}]
            assert error in health["freshness"]["message"] or health["freshness"]["state"] == "stale"
            assert other.stop() == 0, other.text()
        with worker(both) as again:
            again.wait_assigned()
            wait_until(lambda: newest_page(api)["source"] == "redis", "a worker with Redis makes it complete", 120)


def newest_page(api: Served) -> Any:
    """The first "now" that a page of the board would be sent."""
    return next(page for name, page in pages(api) if name == "now" and page["source"])


def test_the_demo_reads_its_rates_from_the_database(without: Settings) -> None:
    """The same counts as an independent group-by of the windows that it shows."""
    begin = (now_ms() - RANGE_MS) // MINUTE_MS * MINUTE_MS
    events = some_events(EVENTS, begin=begin, spread_ms=RANGE_MS - 30_000)
    with worker(without) as one:
        produce(without, events)
        wait_until(lambda: done(without, len(events)) or not one.running, "all are counted", 120)
        watch = Watch(without)
        wait_until(lambda: watch.read().rates, "windows are mature")
        seen = watch.read()
        watch.stop()
    shown = mature_windows(seen.closed_through, without.window_ms)
    hand = {key: n for key, n in counts_by_hand(events, without.window_ms).items() if key[0] in shown}
    assert sum(shown for shown, _ in seen.rates.values()) == sum(n[0] for n in hand.values())
    assert sum(made for _, made in seen.rates.values()) == sum(n[3] for n in hand.values())


def test_a_cache_that_is_not_there_cannot_be_rebuilt_and_windows_can(without: Settings) -> None:
    """Exit code 2 with the reason; a recount of windows corrects the database, and has no cache to correct."""
    result = run(without, "rebuild", "redis")
    assert result.exit_code == 2
    assert "no Redis is configured, so there is no cache to rebuild: FUNNELWATCH_REDIS_URL is empty" in result.stderr
    begin = (now_ms() - RANGE_MS) // MINUTE_MS * MINUTE_MS
    with worker(without) as one:
        produce(without, some_events(100, begin=begin))
        wait_until(lambda: done(without, 100) or not one.running, "all are counted", 120)
    recount = ("rebuild", "windows", "--from", clock(begin), "--to", "now", "--yes")
    assert succeed_json(without, *recount)["cached_windows"] is None
    told = run(without, *recount)
    assert (told.exit_code, told.stdout) == (0, "the counts are right; no Redis is configured\n"), told.output


def test_the_doctor_calls_redis_unused() -> None:
    """Neither ok nor failed; and the cache of such settings is none."""
    nothing = Settings(redis_url="")
    [finding] = check_redis(nothing)
    assert (finding.level, finding.message) == ("unused", "no Redis is configured: readers read the database")
    assert count_cache(nothing) is None


def test_the_embedded_stack_starts_no_redis_where_none_is_wanted(
    own_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty address is recorded: later commands have no Redis either; without the variable, `up` starts one."""
    none = own_stack("tansu", {"PATH": os.environ["PATH"], "FUNNELWATCH_REDIS_URL": ""})
    state = none.up(lambda _: None)
    assert (state.services["redis"].program, state.env["FUNNELWATCH_REDIS_URL"]) == ("none", "")
    plain = own_stack("tansu", {"PATH": os.environ["PATH"]})
    assert {one.service: one.up for one in plain.status()} == {"kafka": True, "postgres": True, "redis": None}
    assert not Settings(data_dir=plain.data_dir).redis_url
    monkeypatch.setenv("FUNNELWATCH_DATA_DIR", str(plain.data_dir))
    shown = CliRunner().invoke(status)
    assert shown.exit_code == 0, shown.output
    assert "redis     no Redis is configured: FUNNELWATCH_REDIS_URL is empty\n" in shown.stdout
    assert plain.up(lambda _: None).services["redis"].pid
    assert Settings(data_dir=plain.data_dir).redis_url
    del none.environ["FUNNELWATCH_REDIS_URL"]
    assert all(one.up for one in none.status())
    again = own_stack("tansu", {"PATH": os.environ["PATH"], "FUNNELWATCH_REDIS_URL": ""}).up(lambda _: None)
    assert (again.services["redis"].pid, again.services["kafka"].pid) == (None, state.services["kafka"].pid)
