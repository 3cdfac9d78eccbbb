"""Real clicks through the real pipeline: every window counts what an independent group-by of the file counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.schemas.counts import CountRow
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.database import Database
from tests.command import succeed_json
from tests.ecom import Key, ecom_counts, ecom_path
from tests.reference.events import Avro, accepted_events, records_of
from tests.reference.sessions import COLUMNS, count_sessions
from tests.stack import wait_until
from tests.traffic import totals
from tests.worker import worker

if TYPE_CHECKING:
    from funnelwatch.schemas.settings import Settings

HOUR_S = 3600


def test_every_window_of_the_clickstream_equals_an_independent_group_by(settings: Settings) -> None:
    """`funnelwatch produce` with the shipped mapping, a worker, and every count by hour, step and os, sessions too."""
    hourly = settings.model_copy(update={"window_s": HOUR_S, "rules_path": None})
    path = ecom_path()
    produced = succeed_json(hourly, "produce", str(path), "--map", "ecom")["produced"]
    with worker(hourly) as running:
        running.wait_assigned()
        wait_until(lambda: totals(hourly)["accepted"] == produced, "all clicks are counted", 120)
    database = Database(hourly.timescale_url)
    counted: dict[Key, CountRow] = {}
    for window, series, tally in CountStore(database).read(0, 2**53):
        assert (series.funnel, series.value("browser"), series.value("app_version")) == ("ecom", "", "")
        counted[Key(window, series.step, series.value("os"))] = tally
    database.close()
    expected = {
        key: CountRow(*(counts[name] for name in CountRow._fields))
        for key, counts in ecom_counts(path, HOUR_S * 1000).items()
    }
    records = records_of(hourly.kafka(), hourly.events_topic)
    events = accepted_events(records, Avro(), set(), int(hourly.duplicate_horizon_s * 1000))
    for (window, _, step, dimensions), numbers in count_sessions(events, {}, HOUR_S * 1000).items():
        key = Key(window, step, dict(dimensions)["os"])
        expected[key] = expected[key]._replace(**dict(zip(COLUMNS, numbers, strict=True)))
    assert sum(tally.sessions for tally in counted.values()) > produced / 10
    assert counted == expected
    assert sum(tally.events for tally in counted.values()) == produced
