"""How long a worker's start takes where Redis lacks a day of windows.

``python -m tests.bench.cache_start --series 1000``

Servers and the worker are its own. A day of windows is put into the database, then a worker starts with an empty Redis
while an event a second is produced. Told is when counting goes on, when readers of the last quarter of an hour use
Redis, and when it has everything; and the same for a second start, which finds everything there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from funnelwatch.sinks.redis.cache import CountCache
from funnelwatch.sinks.timescale.database import Database
from funnelwatch.sinks.timescale.migrations import migrate
from funnelwatch.sinks.timescale.series import series_ids
from tests.drills.servers import Servers
from tests.traffic import event, now_ms, prepared, produce
from tests.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterator

QUARTER_MS = 15 * 60_000
FILL = """
INSERT INTO window_counts
SELECT date_trunc('minute', now()) - w * interval '1 minute', s.series_id, 9, 8, 1, 8, 1, 8, 7, 5, 4
FROM generate_series(1, 1439) AS w, unnest(%s::integer[]) AS s (series_id)
"""


def look(settings: Settings, worker: Worker, begun: float, patience_s: float) -> Iterator[str]:
    """What happens, with the time since the start, s, until Redis has everything."""
    cache = CountCache(settings.redis_url, settings.redis_prefix, settings.cache_horizon_s, settings.events_topic)
    counted, seen, unhealthy = None, set(), 0
    with psycopg.connect(revealed(settings.timescale_url), autocommit=True) as session:
        while time.monotonic() - begun < patience_s:
            produce(settings, [event()])
            row = session.execute("SELECT coalesce(sum(accepted), 0) FROM stream_progress").fetchone()
            assert row is not None
            counted = counted if counted is not None else row[0]
            unhealthy += worker.get("/healthz")[0] == 503
            found = {
                "counting goes on": row[0] > counted,
                "Redis has the last quarter of an hour": cache.is_whole(now_ms() - QUARTER_MS),
                "Redis has everything": cache.is_whole(),
            }
            for what in [what for what, is_so in found.items() if is_so and what not in seen]:
                seen.add(what)
                yield f"{time.monotonic() - begun:6.1f} s  {what}"
            if len(seen) == len(found):
                break
            time.sleep(0.5)
    cache.close()
    yield f"/healthz was 503 {unhealthy} times"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--retry_policy", type=float, default=1_800.0, help="give up after so long, s")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Servers("tansu", print) as servers:
        settings = prepared(
            Settings(
                data_dir=Path(folder),
                kafka_bootstrap_servers=servers.url("kafka"),
                timescale_url=servers.make_database("cache_start"),
                redis_url=servers.url("redis"),
            )
        )
        with closing(Database(settings.timescale_url)) as database:
            migrate(database, settings.window_ms)
            wanted = {
                Series.of("sign_up", "INPUT_NAME", os="iOS", app_version=f"v{number}") for number in range(given.series)
            }
            with database.transaction() as cursor:
                ids = series_ids(cursor, wanted)
        with psycopg.connect(revealed(settings.timescale_url), autocommit=True) as session:
            session.execute(FILL, [list(ids.values())])
            session.execute("VACUUM ANALYZE window_counts")
        for name in ("Redis is empty", "Redis has everything"):
            print(f"a start, {name}:")
            begun = time.monotonic()
            worker = Worker(settings, Path(folder) / "worker.log").start()
            try:
                for line in look(settings, worker, begun, given.retry_policy):
                    print(f"  {line}", flush=True)
                print("  " + "\n  ".join(line for line in worker.text().splitlines() if "Redis" in line))
            finally:
                worker.stop()


if __name__ == "__main__":
    main()
