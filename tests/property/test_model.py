"""Worker, database and broker as a state machine: crash, replay, zombie and rebalance in any interleaving.

The drills do this with real processes, some faults a minute; here Hypothesis tries thousands of interleavings, and
shrinks one that fails to the few steps that matter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from funnelwatch.schemas.counts import Series
from tests.property.pipeline_model import HORIZON_S, SESSION_MS, SETTINGS, CrashError, Scenario, read
from tests.reference.events import Record, event_of
from tests.reference.sessions import Funnel as Session
from tests.reference.sessions import count_sessions
from tests.traffic import STEPS, naive_counts, naive_durations, row_of

if TYPE_CHECKING:
    from tests.property.pipeline_model import Worker

PARTITIONS = 2
WORKERS = 2
POINTS = ("validated", "dead_letters_sent", "committed", "copied", "offsets_committed")

workers = st.integers(0, WORKERS - 1)
partitions = st.integers(0, PARTITIONS - 1)
events = st.builds(
    lambda number, ago, verdict, duration: (number, ago, verdict, duration),
    st.integers(0, 7),
    st.integers(-5_000, 60_000),
    st.sampled_from(["-", "-", "SUCCESS", "FAILURE"]),
    st.integers(0, 30_000),
)


class ExactlyOnce(RuleBasedStateMachine):
    """Whatever happens in whatever order: every event once, every rejected record in the dead letters."""

    def __init__(self) -> None:
        super().__init__()
        self.scenario = Scenario(PARTITIONS)
        self.saved = self.scenario.cache.saved()
        self.workers = [self.scenario.worker() for _ in range(WORKERS)]
        self.owner: dict[int, int] = {}
        for partition in range(PARTITIONS):
            self.hand(partition, partition % WORKERS, told=True)

    # What comes in

    @rule(partition=partitions, batch=st.lists(events | st.none(), min_size=1, max_size=6), gap=st.integers(0, 2))
    def produce(self, partition: int, batch: list[Any], gap: int) -> None:
        """Some records of one partition; numbers repeat, so ids come twice; None is garbage."""
        for one in batch:
            content = b"garbage"
            if one is not None:
                number, ago, verdict, duration = one
                content = f"{number} {self.scenario.now_ms - ago} {verdict} {duration}".encode()
            self.scenario.broker.append(partition, content, self.scenario.now_ms, gap)

    @rule(seconds=st.integers(1, 70))
    def wait(self, seconds: int) -> None:
        """Time passes, so that ids fall out of the horizon."""
        self.scenario.now_ms += seconds * 1000
        self.scenario.clock.now += seconds

    # Who has what

    @rule(partition=partitions, to=workers, told=st.booleans())
    def give(self, partition: int, to: int, told: bool) -> None:
        """Rebalance: a partition goes to a worker; who had it is told, or goes on as a zombie."""
        self.hand(partition, to, told)

    def hand(self, partition: int, to: int, told: bool) -> None:
        """See ``give``."""
        before = self.owner.get(partition)
        if before == to:
            return
        if before is not None and told:
            self.tell(before, partition)
        self.owner[partition] = to
        consumer = self.workers[to].consumer
        if partition in consumer.positions and partition not in consumer.to_revoke:
            self.tell(to, partition)  # a zombie that gets back what it thought it had
        consumer.to_assign.append(partition)

    def tell(self, number: int, partition: int) -> None:
        """A worker learns that a partition is no longer its own."""
        consumer = self.workers[number].consumer
        if partition in consumer.to_assign:
            consumer.to_assign.remove(partition)
        elif partition in consumer.positions and partition not in consumer.to_revoke:
            consumer.to_revoke.append(partition)

    @rule(number=workers)
    def notice(self, number: int) -> None:
        """A zombie learns what it has lost."""
        consumer = self.workers[number].consumer
        for partition in list(consumer.positions):
            if self.owner.get(partition) != number:
                self.tell(number, partition)

    @rule(number=workers)
    def crash(self, number: int) -> None:
        """Kill -9, and a new process in its place, which has nothing."""
        self.workers[number].rebuild.close()  # its session with the database ends
        lost = [partition for partition, owner in self.owner.items() if owner == number]
        self.workers[number] = self.scenario.worker()
        for partition in lost:
            del self.owner[partition]
            self.hand(partition, (number + 1) % WORKERS, told=True)

    # Work

    @rule(number=workers)
    def fetch(self, number: int) -> None:
        """Put a validated fetch into the channel, if there is room."""
        worker = self.workers[number]
        if len(worker.channel) < 4:
            worker.channel.append(worker.validation(worker.fetcher.fetch()))

    @rule(number=workers)
    def fetch_and_count(self, number: int) -> None:
        """What a worker does all the time."""
        self.fetch(number)
        self.count_all(self.workers[number])

    @rule(number=workers)
    def count(self, number: int) -> None:
        """Count what is in the channel."""
        self.count_all(self.workers[number])

    def count_all(self, worker: Worker) -> None:
        """See ``count``."""
        if worker.channel:
            taken, worker.channel = worker.channel, []
            worker.aggregator(taken)

    @rule(number=workers, steps=st.integers(1, 4))
    def copy(self, number: int, steps: int) -> None:
        """The thread that makes the cache complete gets on."""
        for _ in range(steps):
            self.workers[number].rebuild.step()

    @rule(number=workers, point=st.sampled_from(POINTS))
    def crash_while_working(self, number: int, point: str) -> None:
        """Kill -9 between two steps of a fetch or a flush."""

        def die(name: str) -> None:
            if name == point:
                raise CrashError

        self.scenario.at_point = die
        try:
            self.fetch_and_count(number)
        except CrashError:
            self.crash(number)
        finally:
            self.scenario.at_point = lambda _: None

    @rule(number=workers, other=workers, point=st.sampled_from(POINTS), rounds=st.integers(1, 3), told=st.booleans())
    def freeze_while_working(self, number: int, other: int, point: str, rounds: int, told: bool) -> None:
        """A worker stands still between two steps while another takes its partitions over; then it goes on."""
        if number == other:
            return

        def stand_still(name: str) -> None:
            if name != point:
                return
            self.scenario.at_point = lambda _: None
            for partition in [partition for partition, owner in self.owner.items() if owner == number]:
                self.hand(partition, other, told)
            for _ in range(rounds):
                self.fetch(other)
                self.count_all(self.workers[other])
                self.copy(other, rounds)

        self.scenario.at_point = stand_still
        try:
            self.fetch_and_count(number)
        finally:
            self.scenario.at_point = lambda _: None

    @rule(number=workers)
    def hold(self, number: int) -> None:
        """The channel is full: nothing is fetched, the group is served, and then it goes on."""
        self.workers[number].fetcher.keep_alive()

    @rule(number=workers, partition=partitions, told=st.booleans())
    def lose_while_holding(self, number: int, partition: int, told: bool) -> None:
        """A partition is given away, and perhaps comes back, while the channel is full."""
        fetcher = self.workers[number].fetcher
        fetcher.keep_alive()
        self.hand(partition, (number + 1) % WORKERS, told)
        fetcher.keep_alive()
        self.hand(partition, number, told)

    @rule(number=workers, partition=partitions)
    def lose_while_validated_events_wait(self, number: int, partition: int) -> None:
        """A partition is given away and comes back before what was read of it is counted; then it is read again."""
        for to in (number, (number + 1) % WORKERS, number):
            self.hand(partition, to, told=True)
            self.fetch(number)

    # Servers

    @rule(before=st.integers(0, 2), after=st.integers(0, 2))
    def database_fails(self, before: int, after: int) -> None:
        """The next flushes fail: some are not written, of some only the answer is lost."""
        self.scenario.store.fail_before, self.scenario.store.fail_after = before, after

    @rule(calls=st.integers(1, 3))
    def redis_fails(self, calls: int) -> None:
        """The next calls of Redis fail."""
        self.scenario.cache.fail = calls

    @rule()
    def redis_loses_everything(self) -> None:
        """FLUSHALL, or a restart without data."""
        self.scenario.cache.lose_everything()

    @rule()
    def redis_saves(self) -> None:
        """What it has is on its disk."""
        self.saved = self.scenario.cache.saved()

    @rule()
    def redis_goes_back(self) -> None:
        """A restart, or a replica that becomes the primary, with what was saved."""
        self.scenario.cache.restore(self.saved)

    @precondition(lambda self: not self.scenario.registry_fails_at)
    @rule(at=st.integers(1, 8))
    def registry_fails(self, at: int) -> None:
        """The schema registry is away for one of the next records, in the middle of a batch."""
        self.scenario.registry_fails_at = at

    # What must hold

    @invariant()
    def redis_never_shows_more_than_the_database(self) -> None:
        """Count by count."""
        counted = self.scenario.store.counts
        for key, shown in self.scenario.cache.counts.items():
            assert all(a <= b for a, b in zip(shown, counted.get(key, row_of()), strict=True)), (key, shown)

    @invariant()
    def nothing_is_counted_that_is_not_in_the_log(self) -> None:
        """At no time more than the whole log would give."""
        expected = self.expected()
        for key, tally in self.scenario.store.counts.items():
            assert all(a <= b for a, b in zip(tally, expected.get(key, row_of()), strict=True)), (key, tally)

    def expected(self) -> dict[Any, list[int]]:
        """An independent count of the log."""
        counts = naive_counts([event for _, _, event in self.kept()], SETTINGS.window_ms)
        events = [event_of(Record(partition, 0, time, b""), event) for partition, time, event in self.kept()]
        people = count_sessions(events, {"sign_up": Session(STEPS, session_window_ms=SESSION_MS)}, SETTINGS.window_ms)
        for (window, funnel, step, dimensions), numbers in people.items():
            counts.setdefault((window, Series(funnel, step, dimensions)), row_of())[-len(numbers) :] = numbers
        return counts

    def kept(self) -> list[tuple[int, int, dict[str, Any]]]:
        """The events of the log that count, each with its partition and Kafka's timestamp.

        An id counts unless it stands in the horizon before it.
        """
        kept = []
        for partition, log in enumerate(self.scenario.broker.logs):
            sightings: list[tuple[str, int]] = []
            for message in log:
                if message.value() == b"garbage":
                    continue
                event = read(message.value() or b"")
                horizon = message.timestamp()[1] - int(HORIZON_S * 1000)
                if all(number != event["event_id"] or time < horizon for number, time in sightings):
                    kept.append((partition, message.timestamp()[1], event))
                sightings.append((event["event_id"], message.timestamp()[1]))
        return kept

    def teardown(self) -> None:
        """One of the workers takes everything over and finds the end: exactly once, dead letters and Redis too."""
        scenario = self.scenario
        try:
            scenario.store.fail_before = scenario.store.fail_after = scenario.cache.fail = (
                scenario.registry_fails_at
            ) = 0
            for partition in range(PARTITIONS):
                self.hand(partition, 0, told=True)
            ends = dict(enumerate(scenario.broker.ends))
            for _ in range(200):
                self.fetch_and_count(0)
                if ends == {number: one.next_offset for number, one in scenario.store.progress.items()}:
                    break
            # Whatever zombies still have in hand changes nothing any more.
            for number, worker in enumerate(self.workers):
                self.count_all(worker)
                self.fetch_and_count(number)
            self.fetch_and_count(0)
            self.make_whole()
            assert scenario.store.counts == self.expected()
            assert scenario.store.durations == naive_durations(
                [event for _, _, event in self.kept()], SETTINGS.window_ms
            )
            logs = scenario.broker.logs
            garbage = {(m.partition(), m.offset()) for log in logs for m in log if m.value() == b"garbage"}
            assert scenario.letters.places == garbage
            assert {number: one.next_offset for number, one in scenario.store.progress.items()} == ends
            assert {key: tally for key, tally in scenario.cache.counts.items() if any(tally)} == scenario.store.counts
            assert scenario.cache.state().is_whole(scenario.cache.oldest(scenario.now_ms))
        finally:
            scenario.close()

    def make_whole(self) -> None:
        """Let the workers copy what Redis lacks, for as long as they check it a few times."""
        for _ in range(60):
            self.scenario.clock.now += 1.0
            for worker in self.workers:
                for _ in range(10):
                    worker.rebuild.step()
        assert all(worker.debt.settled for worker in self.workers)


TestExactlyOnce = ExactlyOnce.TestCase
TestExactlyOnce.settings = settings(
    max_examples=200, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_worker_that_takes_over_knows_sessions_from_before_the_duplicate_horizon() -> None:
    """A reload after the takeover is no new session, though its first impression is older than any id that counts."""
    machine = ExactlyOnce()
    shown, reloaded, other = (0, 0, "-", 0), (2, 0, "-", 0), (4, 0, "-", 0)
    for one, to in ((shown, 0), (other, 1), (reloaded, 0)):
        machine.produce(0, [one], 0)
        machine.fetch_and_count(machine.owner[0])
        machine.wait(int(HORIZON_S) + 5)
        machine.give(0, to, told=True)
    machine.teardown()
