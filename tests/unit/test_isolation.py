"""One event that the database rejects does not keep the others from being counted."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import psycopg
import pytest

from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.validation import RejectedError, RejectionReason
from funnelwatch.sinks import retry
from funnelwatch.sinks.base import Flushed, MisplacedError
from funnelwatch.stream.aggregate.aggregation import aggregate
from funnelwatch.stream.aggregate.aggregator import QUICKEST_S, Aggregator
from funnelwatch.stream.aggregate.cache_debt import CacheDebt
from funnelwatch.stream.aggregate.isolation import Isolation, admitted_apart, alike, halves
from funnelwatch.stream.intake.batches import IMPRESSION, NONE, SUCCESS, Events, Record, Rejected, ValidatedBatch
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.polled_batch import PartitionAssignment, ValidatedPoll
from funnelwatch.stream.intake.sessions import Sessions
from funnelwatch.stream.native.library import CREDIT
from tests.traffic import seen_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from funnelwatch.schemas.admission import Admission
    from funnelwatch.schemas.counts import PartitionCounts
    from funnelwatch.stream.intake.dead_letters import DeadLetters

MINUTE_MS = 60_000
T = 1_700_000_000_000 // MINUTE_MS * MINUTE_MS
NAMES = [
    Series.of("f", "A", os=os, app_version=version) for os in ("iOS", "Android") for version in ("1", "2", "poison")
]
POISON = [at for at, one in enumerate(NAMES) if one.value("app_version") == "poison"]


class Database:
    """Counts in memory, with a progress, and rejects what ``wrong`` says."""

    def __init__(self, wrong: Callable[[Sequence[PartitionCounts]], Exception | None]) -> None:
        self.wrong = wrong
        self.counted: Counter[str] = Counter()
        self.progress = {0: 0, 1: 0}
        self.flushes = 0

    def flush(
        self, topic: str, topic_id: str, batches: Sequence[PartitionCounts], *, rehearsal: bool = False
    ) -> Flushed:
        """As ``CountStore.flush``."""
        self.flushes += 1
        if (error := self.wrong(batches)) is not None:
            raise error
        for batch in [] if rehearsal else batches:
            assert batch.start_offset == self.progress[batch.partition]
            self.progress[batch.partition] = batch.next_offset
            for key, numbers in batch.counts.by_name().items():
                self.counted[key[1].value("app_version")] += sum(numbers[:3])
        return Flushed()

    def mark_idle(self, topic: str, partitions: Sequence[int]) -> None:
        """Nothing."""


class Letters:
    """The dead letters."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, int, str]] = []

    def send(self, partition: int, rejected: Sequence[Rejected]) -> None:
        """Keep where they were and why."""
        self.sent += [(partition, one.record.offset, f"{one.reason}: {one.detail}") for one in rejected]


class Apart(Isolation):
    """Takes records from nowhere: their value is their offset."""

    def _records(self, partition: int, offsets: Collection[int]) -> list[Record]:
        return [Record(offset, None, str(offset).encode(), T) for offset in sorted(offsets)]


class CachedWindows:
    """A Redis that holds nothing."""

    def oldest(self, now_ms: int) -> int:
        """No window is as new."""
        return now_ms + 1_000 * MINUTE_MS


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "DEFAULT_BACKOFF", retry.Backoff(0.001, 0.001))


def events(count: int, seed: int, poison: int) -> Events:
    """Some events, of which about one in ``poison`` is of a version that is rejected."""
    chance = random.Random(seed)
    good = [at for at in range(len(NAMES)) if at not in POISON]
    verdicts = [chance.choice([IMPRESSION, SUCCESS]) for _ in range(count)]
    return Events.of(
        NAMES,
        offset=np.arange(count),
        series=[chance.choice(POISON if chance.randrange(poison) == 0 else good) for _ in range(count)],
        outcome=verdicts,
        ts=[T + chance.randrange(3 * MINUTE_MS) for _ in range(count)],
    )


def validated(partition: int, accepted: Events) -> ValidatedBatch:
    """A verdict that accepts all."""
    return ValidatedBatch(partition, 0, accepted.ts.size, T, accepted, [], np.empty(0, np.int64))


def scenario(database: Database) -> tuple[Aggregator, Letters]:
    """What counts, with these dead letters."""
    settings, letters = Settings(redis_url=""), Letters()
    isolation = Apart(settings, lambda: cast("DeadLetters", letters), lambda value: {"event_id": value.decode()})
    aggregator = Aggregator(
        settings=settings,
        store=cast("Any", database),
        cache=cast("Any", CachedWindows()),
        debt=CacheDebt(),
        rewind=lambda _: None,
        commit=lambda _: None,
        stopping=threading.Event(),
        now_ms=lambda: T,
        isolation=isolation,
    )
    return aggregator, letters


def count(aggregator: Aggregator, verdicts: list[ValidatedBatch]) -> list[PartitionAssignment]:
    """Count one fetch."""
    assigned = [PartitionAssignment(one.partition, "id", 0, 0, SeenIds(600_000)) for one in verdicts]
    aggregator(
        [ValidatedPoll(list(zip(assigned, verdicts, strict=True)), [], newly_assigned=False, is_full=True, taken_s=0)]
    )
    return assigned


def poisonous(batches: Sequence[PartitionCounts]) -> Exception | None:
    """Rejects one version."""
    if any(key[1].value("app_version") == "poison" for batch in batches for key in batch.counts.by_name()):
        return psycopg.errors.CheckViolation("poison is not wanted")
    return None


@pytest.mark.parametrize(
    ("took_s", "shortest", "longest"), [(0.0, QUICKEST_S, 0.1), (0.06, 0.12, 0.24), (0.2, 0.25, 0.25)]
)
def test_events_are_collected_twice_as_long_as_a_flush_takes(took_s: float, shortest: float, longest: float) -> None:
    """A cheap flush is soon followed by the next; an expensive one, or one that must wait, is not."""
    aggregator, _ = scenario(Database(lambda _: time.sleep(took_s)))
    assert aggregator.interval_s == QUICKEST_S
    count(aggregator, [validated(0, events(10, 1, 400))])
    assert shortest <= aggregator.interval_s <= longest


@pytest.mark.parametrize("poison", [1, 3, 400])
def test_what_is_rejected_goes_to_the_dead_letters_and_the_rest_is_counted(poison: int) -> None:
    """Each event once: counted or a dead letter; the number of flushes is bounded by the kinds of bad events."""
    database = Database(poisonous)
    aggregator, letters = scenario(database)
    verdicts = [validated(partition, events(2_000, partition, poison)) for partition in (0, 1)]
    count(aggregator, verdicts)
    bad = [
        (one.partition, offset)
        for one in verdicts
        for offset in one.accepted.offsets[np.isin(one.accepted.series, POISON)].tolist()
    ]
    assert sorted((partition, offset) for partition, offset, _ in letters.sent) == bad
    assert {why for _, _, why in letters.sent} <= {
        "NOT_STORED: the database rejects it: poison is not wanted (SQLSTATE 23514)"
    }
    assert database.counted.total() == 4_000 - len(bad)
    assert aggregator.counted == 4_000 - len(bad)
    assert database.progress == {0: 2_000, 1: 2_000}
    # Two series in three windows, impressions and successes with three durations: each is looked for once.
    assert database.flushes < 2 * 60 * 2 * 12


def test_only_the_event_whose_session_adds_to_a_rejected_row_is_rejected() -> None:
    """Of events of one series, window and outcome the others are counted, with what their sessions add."""
    database = Database(poisonous)
    aggregator, letters = scenario(database)
    good = next(at for at in range(len(NAMES)) if at not in POISON)
    rows = Events.of(NAMES, offset=range(40), series=[good] * 40, outcome=[SUCCESS] * 40, ts=[T] * 40)
    verdict = validated(0, rows)
    verdict.credited = np.zeros(40, CREDIT)
    verdict.credited["offset"], verdict.credited["moment"], verdict.credited["column"] = range(40), T, 6
    verdict.credited["series"] = [POISON[0] if offset in {7, 23} else good for offset in range(40)]
    assigned = PartitionAssignment(0, "id", 0, 0, SeenIds(600_000), sessions=Sessions(600_000, 100))
    aggregator([ValidatedPoll([(assigned, verdict)], [], newly_assigned=False, is_full=True, taken_s=0)])
    assert sorted(offset for _, offset, _ in letters.sent) == [7, 23]
    assert database.counted.total() == 38


def test_the_ids_of_rejected_events_are_forgotten() -> None:
    """So that a replay of their dead letters within the duplicate horizon counts."""
    database = Database(poisonous)
    aggregator, letters = scenario(database)
    seen = SeenIds(600_000)
    ids = np.array([hash_of(offset) for offset in range(20)], np.uint64)
    assert seen.are_new(seen_at(ids, [T] * 20), T).all()
    verdict = validated(0, events(20, 5, 3))
    aggregator(
        [
            ValidatedPoll(
                [(PartitionAssignment(0, "id", 0, 0, seen), verdict)], [], newly_assigned=False, is_full=True, taken_s=0
            )
        ]
    )
    again = seen.are_new(seen_at(ids, [T + 1] * 20), T + 1)
    assert np.flatnonzero(again).tolist() == sorted(offset for _, offset, _ in letters.sent)
    assert not seen.are_new(seen_at(ids, [T + 2] * 20), T + 2).any()


def hash_of(offset: int) -> int:
    """The digest of an id, as validation makes it."""
    from funnelwatch.stream.native.digests import digests_of

    return int(digests_of([str(offset)])[0])


def test_a_limit_is_met_by_smaller_parts_and_nothing_is_lost() -> None:
    """What works in halves needs no dead letter."""
    for error in (
        psycopg.errors.QueryCanceled("statement timeout"),
        psycopg.errors.ConfigurationLimitExceeded("limit"),
    ):

        def wrong(batches: Sequence[PartitionCounts], error: Exception = error) -> Exception | None:
            return error if sum(one.accepted for one in batches) > 300 else None

        database = Database(wrong)
        aggregator, letters = scenario(database)
        count(aggregator, [validated(0, events(2_000, 0, 400)), validated(1, events(100, 1, 400))])
        assert (database.counted.total(), letters.sent) == (2_100, [])
        assert database.progress == {0: 2_000, 1: 100}


def test_a_database_that_takes_nothing_at_all_is_waited_for() -> None:
    """An error that a flush without events meets as well no event causes."""
    database = Database(lambda _: None)

    def wrong(_: Sequence[PartitionCounts]) -> Exception | None:
        return psycopg.errors.ProgramLimitExceeded("wraparound") if database.flushes < 40 else None

    database.wrong = wrong
    aggregator, letters = scenario(database)
    count(aggregator, [validated(0, events(4, 0, 400))])
    assert (database.counted.total(), letters.sent, database.progress[0]) == (4, [], 4)


def test_a_missing_table_is_raised() -> None:
    """No event causes it: none becomes a dead letter, and the worker stops."""
    database = Database(lambda _: psycopg.errors.UndefinedTable("window_counts"))
    aggregator, letters = scenario(database)
    with pytest.raises(psycopg.errors.UndefinedTable):
        count(aggregator, [validated(0, events(4, 0, 400))])
    assert (letters.sent, database.flushes) == ([], 1)


def test_events_are_alike_that_add_to_the_same_columns_of_the_same_rows() -> None:
    """Window, column, the cohort's window and the bucket tell them apart; milliseconds do not."""
    ts = [T + 1, T + 2, T + MINUTE_MS, T + 3, T + 3, T + 3, T + 3]
    verdicts = [IMPRESSION, IMPRESSION, IMPRESSION, SUCCESS, SUCCESS, SUCCESS, SUCCESS]
    durations = [NONE, NONE, NONE, NONE, 500, 501, 70_000]
    some = Events.of(NAMES, offset=range(7), outcome=verdicts, ts=ts, duration=durations)

    def like(at: int) -> list[int]:
        return np.flatnonzero(alike(some, some.where(some.offsets == at), MINUTE_MS)).tolist()

    assert [like(at) for at in range(7)] == [[0, 1], [0, 1], [2], [3], [4, 5], [4, 5], [6]]


class Shared(Database):
    """A database that another worker counts in as well, when this one has been told that an event is rejected.

    Args:
        overtaken: how far that one counts then.
    """

    def __init__(self, overtaken: int) -> None:
        super().__init__(lambda _: None)
        self.overtaken = overtaken
        self.failed = 0

    def flush(
        self, topic: str, topic_id: str, batches: Sequence[PartitionCounts], *, rehearsal: bool = False
    ) -> Flushed:
        """As ``CountStore.flush``."""
        assert self.flushes < 50, "it goes round in circles"
        (batch,) = batches
        expected = self.progress[batch.partition]
        if batch.next_offset <= expected:
            return Flushed(skipped=[batch.partition])
        if batch.start_offset != expected:
            raise MisplacedError(batch.partition, expected, batch.start_offset)
        try:
            self.wrong = poisonous if not rehearsal else lambda _: None
            return super().flush(topic, topic_id, batches, rehearsal=rehearsal)
        except psycopg.Error:
            self.failed += 1
            if self.failed == 2:  # of the batch, then of the event alone
                self.progress[batch.partition] = self.overtaken
            raise


@pytest.mark.parametrize(("overtaken", "letters"), [(8, []), (6, []), (5, [5]), (3, [5])])
def test_an_event_that_another_worker_has_counted_meanwhile_is_no_dead_letter(
    overtaken: int, letters: list[int]
) -> None:
    """Its database did not reject it, so that a dead letter would be an event that counts twice when it is replayed."""
    database = Shared(overtaken)
    aggregator, sent = scenario(cast("Any", database))
    good = events(8, 1, 10**9)
    good.series[:] = 0
    good.series[5] = POISON[0]
    # Only one event is accepted, so that the batch is not divided: it begins before where the other worker gets to.
    verdict = ValidatedBatch(0, 0, 8, T, good.where(good.offsets == 5), [], np.empty(0, np.int64))
    count(aggregator, [verdict])
    assert [offset for _, offset, _ in sent.sent] == letters
    assert database.progress[0] == 8


def test_a_part_of_a_batch_says_no_later_time_than_it_may_reach() -> None:
    """After a crash between two parts a new worker reads the ids of the duplicate horizon before the next one again."""
    hour = 60 * MINUTE_MS
    whole = ValidatedBatch(0, 0, 8, T, events(8, 1, 400), [], np.empty(0, np.int64), oldest_log_time=T - hour)
    first, second = halves(whole)
    parts = [*halves(first), *halves(second)]
    counts = [aggregate(one, MINUTE_MS, 0, T) for one in parts]
    assert [one.log_time for one in counts] == [T - hour, T - hour, T - hour, T]
    # What is rejected is remembered for a whole horizon after the youngest that it may be.
    assert [one.rejected_log_time for one in counts] == [T, T, T, T]
    assert (aggregate(whole, MINUTE_MS, 0, T).log_time, aggregate(whole, MINUTE_MS, 0, T - 5).log_time) == (T, T - 5)


def test_a_series_that_the_database_rejects_is_rejected_and_others_are_admitted() -> None:
    """Names are stored before their events are counted; whatever rejects one there must not stop the stream."""
    stored: list[Series] = []

    def admit(wanted: Iterable[Series]) -> dict[Series, Admission]:
        found = list(wanted)
        if any(one.value("app_version") == "poison" for one in found):
            raise psycopg.errors.CheckViolation("poison is not wanted")
        stored.extend(found)
        return {one: one for one in found}

    admitted = admitted_apart(admit, [*NAMES, *NAMES])
    assert list(admitted) == NAMES
    for at, one in enumerate(NAMES):
        answer = admitted[one]
        if at in POISON:
            assert isinstance(answer, RejectedError)
            assert (answer.reason, answer.detail) == (
                RejectionReason.NOT_STORED,
                "the database rejects it: poison is not wanted (SQLSTATE 23514)",
            )
        else:
            assert answer == one
    assert stored == [one for one in NAMES if one.value("app_version") != "poison"], "in the order in which they came"


@pytest.mark.parametrize("error", [psycopg.errors.ReadOnlySqlTransaction("away"), psycopg.errors.UndefinedTable("no")])
def test_an_error_that_no_series_causes_is_raised_while_names_are_admitted(error: psycopg.Error) -> None:
    """The server is waited for; a missing table ends the worker."""

    def admit(wanted: Iterable[Series]) -> dict[Series, Admission]:
        raise error

    with pytest.raises(type(error)):
        admitted_apart(admit, NAMES[:1])
