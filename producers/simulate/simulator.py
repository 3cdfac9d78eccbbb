"""Simulated traffic of a funnel: pure, seeded, and the same however it is cut into pieces.

Time is divided into blocks that start at multiples of their length since the epoch. All randomness of the
sessions that begin in a block comes from a generator seeded with the simulator's seed and the block's number, so an
event does not depend on where a run starts or ends::

    block 7   |--s1----s2-------s3--|                      sessions begin here ...
    block 8                         |--s4---s5---------|
    events        a  b    a  cb   c a  d  e  d   e         ... and their later events flow into the next ones
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import compress
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from funnelwatch.producers.simulate.profile import SIGN_UP_PROFILE
from funnelwatch.schemas.times import MINUTE_MS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from funnelwatch.producers.simulate.profile import Incident, Profile
    from funnelwatch.schemas.arrays import Flags, Floats, Indexes, Ints

    Texts = NDArray[np.object_]

LONGEST_ATTEMPT_MS = 90_000
LONGEST_PAUSE_MS = 3_000

BLOCK_SESSIONS = 2_000
"""Sessions of a block, about: enough for whole arrays, few enough for steady live traffic."""

BLOCK_MAX_MIN = 60

MAX_RATE = 10_000_000
"""Sessions a minute, at most: a whole minute is in memory at once."""

_arrival = itemgetter(0)


class Simulator:
    """Traffic by a profile.

    Args:
        profile: the funnel and its people.
        seed: the same seed gives the same events.
        rate: new sessions per minute, on average over a week.
        incidents: periods of failing verifications; the rest of the traffic is the same with and without them.
        disorder_ms: events arrive up to this much after their ts, each by its own delay; 0: in the order of ts.

    Raises:
        ValueError: rate or disorder is invalid, or an incident names a step, dimension or value that is not there.
    """

    def __init__(
        self,
        profile: Profile = SIGN_UP_PROFILE,
        seed: int = 1,
        *,
        rate: float = 60.0,
        incidents: Sequence[Incident] = (),
        disorder_ms: int = 0,
    ) -> None:
        names = [step.name for step in profile.steps]
        for incident in incidents:
            if incident.step not in names:
                raise ValueError(f"step: {incident.step!r} is not one of {', '.join(names)}")
            for name, value in incident.where.items():
                if name not in profile.values:
                    right = ", ".join(profile.values)
                    raise ValueError(f"{name}: is not a dimension; right would be one of {right}")
                if value not in profile.values[name]:
                    right = ", ".join(sorted(profile.values[name]))
                    raise ValueError(f"{name}: no session has {value!r}; right would be one of {right}")
        if not 0 < rate <= MAX_RATE or disorder_ms < 0 or seed < 0:
            raise ValueError(f"rate must be above 0 and at most {MAX_RATE:,}, disorder_ms and seed not below 0")
        self.profile = profile
        self.seed = seed
        self.rate = rate
        self._incidents = tuple(incidents)
        self._disorder_ms = disorder_ms
        self._block_min = max(1, min(BLOCK_MAX_MIN, round(BLOCK_SESSIONS / rate)))
        self._block_ms = self._block_min * MINUTE_MS
        longest_ms = len(names) * (2 * LONGEST_ATTEMPT_MS + LONGEST_PAUSE_MS) + disorder_ms
        self._look_back = math.ceil(longest_ms / self._block_ms)
        self._oses = sorted({platform.os for platform in profile.platforms})
        self._clients = [
            (platform, version, platform.share * share)
            for platform in profile.platforms
            for version, share in platform.app_versions
        ]
        self._beta = lru_cache(maxsize=self._look_back + 2)(self._draw_conversions)

    def events(self, start_ms: int, end_ms: int) -> Iterator[dict[str, Any]]:
        """The events with ``start_ms <= ts < end_ms``, as records for the encoder, in the order of arrival.

        Streams block by block: memory holds the events of one block and the later events of its sessions.
        """
        block = max(0, start_ms // self._block_ms - self._look_back)
        pending: list[tuple[int, dict[str, Any]]] = []
        while pending or block * self._block_ms < end_ms:
            if block * self._block_ms < end_ms:
                pending += self._block(block, start_ms, end_ms)
            pending.sort(key=_arrival)  # two sorted runs: linear
            block += 1
            now_ms = block * self._block_ms
            done = 0
            for arrival, event in pending:
                if arrival >= now_ms:
                    break
                done += 1
                yield event
            del pending[:done]

    def _draw_conversions(self, block: int) -> Floats:
        """The conversion of each minute of a block, step and os: beta distributed around the profile's."""
        rng = np.random.default_rng([self.seed, block, 1])
        mean = np.array([step.conversion for step in self.profile.steps])[:, None]
        ease = np.array([self._ease(os) for os in self._oses])[None, :]
        mean = mean * ease / (1 - mean + mean * ease)
        shape = (self._block_min, *mean.shape)
        if not self.profile.rho:
            return np.broadcast_to(mean, shape)
        size = 1 / self.profile.rho - 1
        return rng.beta(mean * size, (1 - mean) * size, shape)

    def _ease(self, os: str) -> float:
        """Mean factor on the odds over the platforms of one os."""
        of_os = [platform for platform in self.profile.platforms if platform.os == os]
        return sum(platform.share * platform.ease for platform in of_os) / sum(platform.share for platform in of_os)

    def _conversions(self, step: int, os: Indexes, ts: Ints) -> Floats:
        """The conversion of people shown a step at these times."""
        minute = ts // MINUTE_MS
        first = int(minute.min()) // self._block_min
        blocks = range(first, int(minute.max()) // self._block_min + 1)
        table = np.concatenate([self._beta(block)[:, step] for block in blocks])
        return table[minute - first * self._block_min, os]

    def _lost(self, step: str, client: Indexes, drawn: Mapping[str, Texts], ts: Ints) -> Floats:
        """The share of successes that incidents turn into failures, for verifications of a step at these times."""
        kept = np.ones(len(ts))
        for incident in self._incidents:
            if incident.step == step:
                hit = np.array([_matches(incident, platform, version) for platform, version, _ in self._clients])
                hit = hit[client] & (ts >= incident.start_ms) & (ts < incident.end_ms)
                for name in incident.where.keys() & drawn.keys():
                    hit &= drawn[name] == incident.where[name]
                kept[hit] *= 1 - incident.loss
        return 1 - kept

    def _block(self, block: int, start_ms: int, end_ms: int) -> list[tuple[int, dict[str, Any]]]:
        """All events in range of the sessions that begin in a block, with their arrival, in its order."""
        rng = np.random.default_rng([self.seed, block, 0])
        first = block * self._block_min
        expected = [self.rate * self.profile.season(first + minute) for minute in range(self._block_min)]
        sessions = rng.poisson(expected)
        count = int(sessions.sum())
        if not count:
            return []
        minutes = np.repeat(np.arange(first, first + self._block_min, dtype=np.int64), sessions)
        shown = minutes * MINUTE_MS + rng.integers(0, MINUTE_MS, count)
        client = rng.choice(len(self._clients), count, p=[share for _, _, share in self._clients])
        drawn = self._draw_dimensions(block, count)
        os_of = np.array([self._oses.index(platform.os) for platform, _, _ in self._clients])
        alive = np.ones(count, dtype=bool)
        parts: list[_Part] = []
        for index, step in enumerate(self.profile.steps):
            # Drawn for every session, so that an incident changes nothing for the sessions that it spares.
            made, lost, wrong = rng.random((3, count))
            first_ms, second_ms = _attempts(rng, step.seconds, count)
            pause = rng.integers(300, LONGEST_PAUSE_MS, count)
            success = made < self._conversions(index, os_of[client], shown)
            retry = success & (wrong < step.wrong_first)
            total_ms = np.where(retry, first_ms + second_ms, first_ms)
            verified = shown + total_ms
            taken = success & (lost < self._lost(step.name, client, drawn, verified))
            success &= ~taken
            failure = alive & (taken | (~success & (wrong < step.failed)))
            parts += [
                _Part(index, 0, None, shown, None, alive.copy()),
                _Part(index, 1, "FAILURE", shown + first_ms, first_ms, alive & retry),
                _Part(index, 2, "SUCCESS", verified, total_ms, alive & success),
                _Part(index, 2, "FAILURE", verified, total_ms, failure),
            ]
            alive &= success
            shown = verified + pause
        delays = rng.integers(0, self._disorder_ms + 1, (len(parts), count)) if self._disorder_ms else None
        contexts = [dict(zip(drawn, values, strict=True)) for values in zip(*(drawn.values()), strict=True)]
        return self._records(block, client, contexts or [{}] * count, parts, delays, within=(start_ms, end_ms))

    def _draw_dimensions(self, block: int, count: int) -> dict[str, Texts]:
        """The further dimensions of the sessions of a block; drawn apart, so that all else stays as without them."""
        rng = np.random.default_rng([self.seed, block, 2])
        drawn = {}
        for dimension in self.profile.dimensions:
            values = np.array([value for value, _ in dimension.values], dtype=object)
            shares = np.array([share for _, share in dimension.values])
            drawn[dimension.name] = values[rng.choice(len(values), count, p=shares / shares.sum())]
        return drawn

    def _records(
        self,
        block: int,
        client: Indexes,
        contexts: list[dict[str, str]],
        parts: list[_Part],
        delays: Ints | None,
        *,
        within: tuple[int, int],
    ) -> list[tuple[int, dict[str, Any]]]:
        """The events of a block as (arrival, record)."""
        ids = [f"{self.seed:x}-{block:x}-{number:x}" for number in range(len(client))]
        dimensions = [(platform.os, platform.browser, version) for platform, version, _ in self._clients]
        of_session = [dimensions[number] for number in client.tolist()]
        funnel = self.profile.funnel
        events: list[tuple[int, dict[str, Any]]] = []
        for number, part in enumerate(parts):
            chosen = part.who & (part.ts >= within[0]) & (part.ts < within[1])
            step = self.profile.steps[part.step].name
            suffix = f"-{part.step}{part.attempt}"
            phase = "POST_VERIFICATION" if part.status else "IMPRESSION"
            ts = part.ts[chosen].tolist()
            durations = [None] * len(ts) if part.duration is None else part.duration[chosen].tolist()
            arrivals = ts if delays is None else (part.ts + delays[number])[chosen].tolist()
            events += [
                (
                    arrival,
                    {
                        "event_id": session + suffix,
                        "funnel": funnel,
                        "sign_up_session_id": session,
                        "step": step,
                        "os": os,
                        "browser": browser,
                        "app_version": version,
                        "phase": phase,
                        "status": part.status,
                        "ts": time,
                        "duration_ms": duration,
                        "contexts": dict(more),
                    },
                )
                for arrival, time, duration, session, (os, browser, version), more in zip(
                    arrivals,
                    ts,
                    durations,
                    compress(ids, chosen),
                    compress(of_session, chosen),
                    compress(contexts, chosen),
                    strict=True,
                )
            ]
        events.sort(key=_arrival)
        return events


class _Part(NamedTuple):
    """The events of one kind at one step, for the sessions ``who``, at ``ts``."""

    step: int
    attempt: int
    status: str | None
    ts: Ints
    duration: Ints | None
    who: Flags


def _attempts(rng: np.random.Generator, seconds: float, count: int) -> Ints:
    """The durations of a first and a second attempt, ms: log-normal, with the given median."""
    drawn = rng.lognormal(math.log(seconds * 1000), 0.5, (2, count))
    return np.clip(drawn, 500, LONGEST_ATTEMPT_MS).astype(np.int64)


def _matches(incident: Incident, platform: Any, version: str) -> bool:
    values = {"os": platform.os, "browser": platform.browser, "app_version": version}
    return all(incident.where.get(name, value) == value for name, value in values.items())
