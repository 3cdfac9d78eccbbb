"""Pathway as its guide has it: raw values, a batch UDF that decodes, ``groupby().reduce()``, a snapshot in PostgreSQL.

The window is part of the key: ``windowby`` makes the same counts for half as much processor time again.
"""

from __future__ import annotations

import os

# One worker; with no licence key Pathway sends no telemetry.
os.environ["PATHWAY_THREADS"] = "1"
for name in ("PATHWAY_LICENSE_KEY", "PATHWAY_MONITORING_SERVER"):
    os.environ.pop(name, None)

import pathway as pw  # noqa: E402 - it reads the environment once
from psycopg.conninfo import conninfo_to_dict  # noqa: E402
from work import begin, decode, key, task  # noqa: E402

COLUMNS = ("window_ms", "step", "os", "browser", "app_version", "phase", "status")
given = task()


@pw.udf(deterministic=True, max_batch_size=1024)
def counted(values: list[bytes]) -> list[tuple[int, str, str, str, str, str, str]]:
    """Key of each event."""
    begin()
    return [key(decode(value)) for value in values]


def main() -> None:
    """Run until it is ended."""
    events = pw.io.kafka.read(
        {
            "bootstrap.servers": given.kafka,
            **given.login,
            "group.id": given.group,
            "auto.offset.reset": "earliest",
            "fetch.queue.backoff.ms": "2",
            "queued.max.messages.kbytes": "65536",
        },
        given.topic,
        format="raw",
        # Rows of the same session must not replace each other.
        autogenerate_key=True,
        autocommit_duration_ms=100,
        # Its guide wants a limit where a backlog waits.
        max_backlog_size=50_000,
    )
    keyed = events.select(key=counted(pw.this.data))
    counts = keyed.groupby(pw.this.key).reduce(pw.this.key, n=pw.reducers.count())
    rows = counts.select(**{name: pw.this.key[place] for place, name in enumerate(COLUMNS)}, n=pw.this.n)
    pw.io.postgres.write(
        rows,
        conninfo_to_dict(given.database),
        "counts",
        output_table_type="snapshot",
        primary_key=[rows[name] for name in COLUMNS],
    )
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


main()
