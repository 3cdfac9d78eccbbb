"""What a worker costs where nothing happens: ``python -m tests.bench.idle``.

Processor time is that of its process, statements are those that it sends to PostgreSQL, requests are the segments with
data that it sends to Kafka (``ss``; a request of an idle client fits into one).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import click

from funnelwatch.schemas.redaction import revealed
from funnelwatch.schemas.settings import Settings
from tests.bench.report import circumstances, write
from tests.bench.speed.__main__ import own_topics
from tests.integration.test_idle import CountingDoor
from tests.stack import drop_database, make_database, servers, wait_until
from tests.traffic import done, prepared, produce, some_events
from tests.worker import Worker

SETTLES_S = 100.0
"""A worker rests once the windows of the last events are closed."""


def cpu_s(pid: int) -> float:
    """Processor time of a process so far, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def segments(pid: int, port: int) -> Counter[str]:
    """Segments with data that a process has sent to a port so far, by connection."""
    ss = shutil.which("ss")
    if ss is None:
        raise click.ClickException("ss is missing: apt install iproute2")
    lines = subprocess.run([ss, "-tinpH"], capture_output=True, text=True, check=True).stdout.splitlines()
    found: Counter[str] = Counter()
    for head, more in zip(lines[::2], lines[1::2], strict=True):
        of = re.search(rf"(\S+)\s+\S+:{port}\s.*pid={pid},", head)
        sent = re.search(r"data_segs_out:(\d+)", more)
        if of and sent:
            found[of[1]] = int(sent[1])
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=30.0, show_default=True, help="How long to look.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures into this file.")
def main(seconds: float, json_path: Path | None) -> None:
    """Tell what an idle worker costs."""
    with ExitStack() as stack:
        running = stack.enter_context(servers())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="funnelwatch-bench-")))
        unique = f"idle_{uuid.uuid4().hex[:12]}"
        url = revealed(make_database(running.timescale_url, unique, timescaledb=running.timescaledb))
        stack.callback(drop_database, running.timescale_url, unique)
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        door = CountingDoor(parts.hostname, parts.port)
        stack.callback(door.close)
        settings = Settings(
            kafka_bootstrap_servers=running.kafka_bootstrap_servers,
            kafka_config=running.kafka_config,
            redis_url=running.redis_url,
            timescale_url=url,
            consumer_group=unique,
            data_dir=folder,
        ).model_copy(update=own_topics(unique))
        prepared(settings)
        through = url.replace(f"{parts.hostname}:{parts.port}", f"127.0.0.1:{door.port}")
        worker = Worker(settings, folder / "worker.log", {"timescale_url": through}).start()
        stack.callback(worker.kill)
        worker.wait_assigned()
        produce(settings, some_events(100))
        wait_until(lambda: done(settings, 100), "events are counted")
        time.sleep(SETTLES_S)
        kafka = int(revealed(running.kafka_bootstrap_servers).rpartition(":")[2])
        door.statements.clear()
        begun, spent, sent = time.monotonic(), cpu_s(worker.pid), segments(worker.pid, kafka)
        time.sleep(seconds)
        passed = time.monotonic() - begun
        spent, after = cpu_s(worker.pid) - spent, segments(worker.pid, kafka)
        report = circumstances("bench-idle", running) | {
            "cpu_share": round(spent / passed, 4),
            "kafka_requests_s": round((after - sent).total() / passed, 2),
            "by_connection_s": sorted((round(one / passed, 2) for one in (after - sent).values()), reverse=True),
            "statements_s": round(door.statements.total() / passed, 2),
            "statements": {text: round(number / passed, 2) for text, number in door.statements.most_common(12)},
        }
    for name in ("cpu_share", "kafka_requests_s", "by_connection_s", "statements_s", "statements"):
        click.echo(f"{name}: {report[name]}")
    write(json_path, report)


if __name__ == "__main__":
    main()
