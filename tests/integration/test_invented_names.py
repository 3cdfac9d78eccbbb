"""Names that somebody invents do not delay the detection of the declared funnel, and no event of theirs vanishes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.alert_rules.loader import LiveRules
from funnelwatch.schemas.admission import OTHER, SeriesLimits
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import Funnel
from funnelwatch.schemas.validation import Limits, RejectedError
from funnelwatch.sinks.timescale.alerts import AlertStore
from funnelwatch.sinks.timescale.closing import ClosingStore
from funnelwatch.sinks.timescale.counts import CountStore
from funnelwatch.sinks.timescale.series import SeriesStore
from funnelwatch.sinks.timescale.series_counts import SeriesCounts
from funnelwatch.sinks.timescale.silences import SilenceStore
from funnelwatch.stream.aggregate.aggregation import aggregate
from funnelwatch.stream.closing.closer import Closer
from funnelwatch.stream.detector.detection import Detection
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.validator import EventValidator
from tests.traffic import STEPS, event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from funnelwatch.schemas.counts import ClosedWindow
    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database

MINUTE = 60_000
T0 = 1_700_000_040_000
DECLARED = {"sign_up": Funnel(STEPS)}
LIMITS = SeriesLimits()


class Pipeline:
    """Counting, closing and detecting by hand; what is closed and which detectors are made is noted in order."""

    def __init__(self, settings: Settings, connect: Callable[[], Database]) -> None:
        self.settings = settings
        self.connect = connect
        self.store = CountStore(connect())
        self.store.start(settings.events_topic, "id", {0: 0})
        self.now = T0
        self.offset = 0
        self.rejected = 0
        self.made: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin as a worker that has just been started."""
        connect, settings = self.connect, self.settings
        self.admit = SeriesStore(connect(), DECLARED, LIMITS).admit
        self.closed: list[ClosedWindow] = []
        self.closer = Closer(
            settings=settings,
            store=ClosingStore(connect()),
            partitions=lambda: 1,
            registry=None,
            stopping=threading.Event(),
            declared=DECLARED,
            now_ms=lambda: self.now,
        )
        self.closer._publish = self._keep  # type: ignore[method-assign]
        database = connect()
        self.detection = Detection(
            settings=settings,
            rules=LiveRules(None),
            counts=SeriesCounts(database),
            alerts=AlertStore(database),
            silences=SilenceStore(database),
            registry=None,
            declared=DECLARED,
            now_ms=lambda: self.now,
        )
        self.made.clear()
        begin = self.detection._begin

        def noted(funnel: str, first_window: int) -> Any:
            self.made.append(funnel)
            return begin(funnel, first_window)

        self.detection._begin = noted  # type: ignore[method-assign]

    def _keep(self, windows: Iterable[ClosedWindow]) -> None:
        self.closed += windows

    def count(self, events: list[dict[str, Any]]) -> None:
        """Validate and flush."""
        validator = EventValidator(
            lambda value: events[int(value or b"")], DECLARED, Limits(0, 10**13), 100, self.admit
        )
        end = self.offset + len(events)
        records = [Record(self.offset + at, b"k", str(at).encode(), self.now) for at in range(len(events))]
        validated = validator(RecordBatch(0, self.offset, end, Records.of(records)), SeenIds(0), self.now)
        self.rejected += len(validated.rejected)
        self.store.flush(self.settings.events_topic, "id", [aggregate(validated, MINUTE, 0, self.now)])
        self.offset = end

    def close_and_evaluate(self) -> list[ClosedWindow]:
        """One round of the closer, and of the detection with all that it closed."""
        self.closed = []
        self.closer.round()
        self.detection(self.closed)
        return self.closed


FLOODS: dict[str, Callable[[int], dict[str, Any]]] = {
    "funnels": lambda number: {"funnel": f"a{number}"},
    "steps of an undeclared funnel": lambda number: {"funnel": "a", "step": f"s{number}"},
    "app versions": lambda number: {"app_version": f"v{number}"},
    "systems": lambda number: {"os": f"o{number}"},
    "browsers": lambda number: {"browser": f"b{number}"},
    "everything at once": lambda number: {
        "os": f"o{number % 70}",
        "browser": f"b{number}",
        "app_version": f"v{number}",
    },
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_invented_names_leaves_the_declared_funnel_first_and_bounded(
    settings: Settings, connect: Callable[[], Database], flood: str
) -> None:
    """5,000 names in one request: the declared funnel is closed and evaluated first, also after a restart."""
    quiet = {"allowed_disorder_s": 0.0, "kafka_config": {"log_level": "0"}}  # nobody produces: Kafka is not asked
    pipeline = Pipeline(settings.model_copy(update=quiet), connect)
    pipeline.count([event(ts=T0)])
    pipeline.count([event(ts=T0 + 1, **FLOODS[flood](number)) for number in range(5_000)])
    for minute in range(1, 4):
        if minute == 2:
            pipeline.start()
        pipeline.now = T0 + minute * MINUTE
        pipeline.count([event(ts=pipeline.now)])
        closed = pipeline.close_and_evaluate()
        assert closed[0].funnel == "sign_up"
        if minute < 3:
            assert pipeline.made[0] == "sign_up"
        assert len(pipeline.made) <= 1 + LIMITS.funnels
        assert len(closed) <= 1 + LIMITS.funnels
        assert len(closed[0].series) <= LIMITS.values + len(STEPS) + 1
    counted = sum(aggregate.events for _, _, aggregate in pipeline.store.read(0, 2**45))
    assert counted + pipeline.rejected == 5_004, "no event vanishes"


def test_all_workers_and_every_replay_agree_on_what_is_admitted(connect: Callable[[], Database]) -> None:
    """Two stores that admit different names in turns give the same answers afterwards, and so does a third."""
    limits = SeriesLimits(funnels=3, values=4, series=20)
    first, second = (SeriesStore(connect(), DECLARED, limits) for _ in range(2))
    wanted = [Series.of("sign_up", STEPS[0], os="iOS", app_version=f"v{number}") for number in range(20)]
    wanted += [Series.of(f"other {number}", "S") for number in range(20)]
    found = [
        {**first.admit(wanted[at : at + 1]), **second.admit(wanted[-at - 1 : len(wanted) - at])}
        for at in range(len(wanted))
    ]
    told: dict[Series, str] = {}
    for answers in found:
        for series, admission in answers.items():
            told.setdefault(series, str(admission))
    for store in (first, second, SeriesStore(connect(), DECLARED, limits)):
        again = store.admit(wanted)
        assert {one: str(again[one]) for one in wanted} == told
    kept = [one for one in again.values() if isinstance(one, Series)]
    versions = {one.value("app_version") for one in kept if one.funnel == "sign_up"}
    assert OTHER in versions
    assert len(versions) == limits.values + 1
    assert sum(isinstance(one, RejectedError) for one in again.values()) == 20 - limits.funnels


def test_a_dry_run_admits_nothing(connect: Callable[[], Database]) -> None:
    """A recount tells what workers would do, and takes no room away."""
    one = Series.of("sign_up", STEPS[0], os="iOS", app_version="v")
    database = connect()
    assert SeriesStore(database, DECLARED, LIMITS, keeps=False).admit([one]) == {one: one}
    assert database.query("counted_funnels") == []
