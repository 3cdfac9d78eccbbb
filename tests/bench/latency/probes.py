"""Events among the load whose way is followed: some that are counted in a window, some that make alerts."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from funnelwatch.schemas.codec import Encoder
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.timescale.database import Database
from tests.bench.latency.delays import summary
from tests.traffic import event

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from funnelwatch.schemas.settings import Settings

EVERY_S = 0.05
LOOK_EVERY_S = 0.004
GIVE_UP_S = 10.0
PROBE = {"os": "probe", "app_version": "probe"}
SHOWN = """
SELECT impressions FROM conversion
WHERE funnel = 'sign_up' AND window_start = to_timestamp(%s / 1000.0) AND os = 'probe' AND app_version = 'probe'
"""

RULE = "BenchProbe"
ALERTING = tuple(f"probe-{number}" for number in range(5))
SHOWN_EACH = 3
INTO_WINDOW = 0.1
"""How far into a window the events that decide on its alerts are produced, as a share of it."""


def write_rule(folder: Path, window_s: int) -> None:
    """A rule that fires in a window without successes, and is resolved by one with them; load never makes it fire."""
    (folder / "bench.yml").write_text(
        f"groups: [{{name: bench, rules: [{{alert: {RULE}, kind: threshold, below: 0.05, over: {window_s}s, by: [os], "
        f"step: INPUT_PHONE_NUMBER, min_impressions: {SHOWN_EACH}}}]}}]\n"
    )


@dataclass
class Waiting:
    """Probes on their way, each with its window, its number there, and when Kafka took it, s."""

    waiting: list[tuple[int, int, float]] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)

    def look(self, shown: Callable[[int], int]) -> None:
        """See which are there by now."""
        counts = {window: shown(window) for window in {window for window, _, _ in self.waiting}}
        now = time.time()
        for one in list(self.waiting):
            window, number, taken = one
            if counts[window] >= number:
                self.delays_ms.append((now - taken) * 1000)
                self.waiting.remove(one)


class Probes:
    """Produces probes and looks for them.

    Attributes:
        made: window, series, and whether it has no success, of what makes alerts.
    """

    def __init__(self, settings: Settings) -> None:
        self.made: list[tuple[int, str, bool]] = []
        self._settings = settings
        self._encode = Encoder("FunnelEvent")
        self._producer = Producer(settings.kafka(**{"linger.ms": 0}))
        self._numbers: dict[int, int] = {}

    def follow(self, measured_s: float, seconds: float) -> dict[str, dict[str, Any]]:
        """Produce for some seconds, and look for what is produced from ``measured_s`` on; the delays by store."""
        settings = self._settings
        with (
            closing(CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s)) as cache,
            closing(Database(settings.timescale_url)) as database,
        ):
            stores: dict[str, tuple[Waiting, Callable[[int], int]]] = {
                "redis": (Waiting(), lambda window: _in_redis(cache, window)),
                "timescaledb": (Waiting(), lambda window: _in_database(database, window)),
            }
            began = time.monotonic()
            due, deadline = began + measured_s, began + seconds
            while (now := time.monotonic()) < deadline or any(one.waiting for one, _ in stores.values()):
                if now > deadline + GIVE_UP_S:
                    break
                if now < deadline:
                    self._alerting()
                if due <= now < deadline:
                    due += EVERY_S
                    probe = self._one()
                    for waiting, _ in stores.values():
                        waiting.waiting.append(probe)
                for waiting, shown in stores.values():
                    if waiting.waiting:
                        waiting.look(shown)
                time.sleep(LOOK_EVERY_S)
        return {name: {**summary(one.delays_ms), "missing": len(one.waiting)} for name, (one, _) in stores.items()}

    def _one(self) -> tuple[int, int, float]:
        now = int(time.time() * 1000)
        window = now - now % self._settings.window_ms
        self._numbers[window] = number = self._numbers.get(window, 0) + 1
        taken: list[float] = []
        # One session: probes are counted in the order in which they were produced.
        self._producer.produce(
            self._settings.events_topic,
            self._encode(event(ts=now, **PROBE)),
            b"probe",
            on_delivery=lambda *_: taken.append(time.time()),
        )
        while not taken:
            self._producer.poll(0.001)
        return window, number, taken[0]

    def _alerting(self) -> None:
        """Once a window, events of each series: in turn such as end in success and such as do not."""
        now, window_ms = int(time.time() * 1000), self._settings.window_ms
        window = now - now % window_ms
        if now - window < INTO_WINDOW * window_ms or (self.made and self.made[-1][0] >= window):
            return
        for number, os in enumerate(ALERTING):
            below = (window // window_ms + number) % 2 == 0
            kinds: list[dict[str, Any]] = [{}]
            if not below:
                kinds.append({"phase": "POST_VERIFICATION", "status": "SUCCESS"})
            for kind in kinds * SHOWN_EACH:
                value = self._encode(event(ts=now, os=os, app_version="probe", **kind))
                self._producer.produce(self._settings.events_topic, value, os.encode())
            self.made.append((window, os, below))
        self._producer.poll(0)


def _in_redis(cache: CountCache, window: int) -> int:
    found = cache.read("sign_up", window)
    return sum(tally.impressions for series, tally in found.items() if series.value("os") == "probe")


def _in_database(database: Database, window: int) -> int:
    with database.transaction() as cursor:
        row = cursor.execute(SHOWN, [window]).fetchone()
    return row["impressions"] if row else 0
