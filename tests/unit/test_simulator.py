"""The simulator: seeded, streaming, independent of how it is cut, and true to its profile."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from funnelwatch.producers.simulate.pacing import paced
from funnelwatch.producers.simulate.profile import (
    SIGN_UP_PROFILE,
    WEEK_MIN,
    Dimension,
    Incident,
    Platform,
    Profile,
    StepProfile,
)
from funnelwatch.producers.simulate.simulator import Simulator
from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.events import event_error

HOUR = 3_600_000
T0 = 1_767_571_200_000  # Monday, 5 January 2026, 00:00 UTC


def rates(events: list[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """Successes per impression by step and os."""
    counts = Counter((event["step"], event["os"], event["status"]) for event in events)
    return {(step, os): counts[step, os, "SUCCESS"] / n for (step, os, status), n in counts.items() if status is None}


@settings(deadline=None, max_examples=25)
@given(cut=st.integers(T0 + 1, T0 + HOUR - 1), disorder=st.sampled_from([0, 5000]), rate=st.sampled_from([3.0, 90.0]))
def test_a_run_that_is_cut_in_two_gives_the_same_events(cut: int, disorder: int, rate: float) -> None:
    """Wherever a run starts or ends, an event is the same."""
    whole = list(Simulator(rate=rate, disorder_ms=disorder).events(T0, T0 + HOUR))
    parts = [list(Simulator(rate=rate, disorder_ms=disorder).events(*span)) for span in ((T0, cut), (cut, T0 + HOUR))]
    assert all(event["ts"] < cut for event in parts[0])
    assert sorted(whole, key=lambda event: event["event_id"]) == sorted(
        itertools.chain(*parts), key=lambda event: event["event_id"]
    )
    if not disorder:
        assert whole == parts[0] + parts[1]


def test_events_are_valid_unique_and_in_the_order_of_their_time() -> None:
    """What is simulated is what the stream accepts."""
    encode, decode = Encoder("FunnelEvent"), Decoder("FunnelEvent")
    events = list(Simulator(rate=100).events(T0, T0 + HOUR))
    assert [event_error(decode(encode(event))) for event in events] == [None] * len(events)
    assert len({event["event_id"] for event in events}) == len(events)
    assert [event["ts"] for event in events] == sorted(event["ts"] for event in events)


def test_disorder_stays_within_its_limit_and_is_really_there() -> None:
    """No event comes later than the limit after one with a larger ts."""
    latest, behind = 0, 0
    for event in Simulator(rate=100, disorder_ms=3000).events(T0, T0 + HOUR):
        latest = max(latest, event["ts"])
        behind = max(behind, latest - event["ts"])
    assert 2000 < behind <= 3000


def test_another_seed_gives_other_events() -> None:
    """And the same seed the same."""
    one, again, two = (list(Simulator(seed=seed, rate=20).events(T0, T0 + HOUR)) for seed in (1, 1, 2))
    assert one == again
    assert [event["ts"] for event in one] != [event["ts"] for event in two]


def test_a_session_walks_the_steps_in_order_and_goes_on_only_after_a_success() -> None:
    """Each verification belongs to an impression before it, as its duration says."""
    walks: dict[str, list[dict[str, Any]]] = {}
    for event in Simulator(rate=60).events(T0, T0 + HOUR):
        walks.setdefault(event["sign_up_session_id"], []).append(event)
    names = [step.name for step in SIGN_UP_PROFILE.steps]
    complete = [walk for walk in walks.values() if walk[0]["step"] == names[0] and walk[0]["phase"] == "IMPRESSION"]
    assert len(complete) > 1000
    for walk in complete:
        shown = {event["step"]: event["ts"] for event in walk if event["phase"] == "IMPRESSION"}
        made = [event["step"] for event in walk if event["status"] == "SUCCESS"]
        assert list(shown) == names[: len(shown)]
        assert made[: len(shown) - 1] == names[: len(shown) - 1]
        assert all(event["ts"] - event["duration_ms"] == shown[event["step"]] for event in walk if event["status"])


def test_rates_are_those_of_the_profile() -> None:
    """Within five standard errors, by step, for the os whose odds are unchanged."""
    events = list(Simulator(rate=200).events(T0, T0 + 3 * HOUR))
    seen = rates(events)
    for step in SIGN_UP_PROFILE.steps:
        shown = sum(e["step"] == step.name and e["os"] == "Android" and e["status"] is None for e in events)
        error = math.sqrt(step.conversion * (1 - step.conversion) / shown * (1 + shown / 180 * SIGN_UP_PROFILE.rho))
        assert seen[step.name, "Android"] == pytest.approx(step.conversion, abs=5 * error)


@pytest.mark.parametrize("rho", [0.0, 0.02])
def test_conversion_varies_from_minute_to_minute_as_rho_says(rho: float) -> None:
    """Successes of the impressions of one minute are beta-binomial: variance n p (1-p) (1 + (n-1) rho)."""
    step = StepProfile("A", 0.7, 10.0, 0.0, 0.5)
    profile = Profile("f", (step,), (Platform("iOS", "", (("1", 1.0),), 1.0),), rho=rho, daily=0.0, weekdays=(1.0,) * 7)
    shown: Counter[int] = Counter()
    made: Counter[int] = Counter()
    for event in Simulator(profile, rate=200).events(T0, T0 + 24 * HOUR):
        shown[event["ts"] // 60_000] += event["status"] is None
        made[(event["ts"] - (event["duration_ms"] or 0)) // 60_000] += event["status"] == "SUCCESS"
    minutes = sorted(shown)[:-5]  # the last ones have had no time to convert
    n = np.array([shown[minute] for minute in minutes])
    z2 = [(made[minute] - shown[minute] * 0.7) ** 2 / (shown[minute] * 0.21) for minute in minutes]
    expected = 1 + (n.mean() - 1) * rho
    assert np.mean(z2) == pytest.approx(expected, rel=0.15)


def test_traffic_follows_the_rate_and_its_seasons() -> None:
    """A week's average is the rate; the evening has several times the traffic of the night."""
    assert sum(SIGN_UP_PROFILE.season(minute) for minute in range(WEEK_MIN)) / WEEK_MIN == pytest.approx(1, abs=0.001)
    events = [e for e in Simulator(rate=30).events(T0, T0 + 24 * HOUR) if e["step"] == "INPUT_PHONE_NUMBER"]
    hours = Counter((event["ts"] - T0) // HOUR for event in events if event["status"] is None)
    assert hours.total() == pytest.approx(30 * 1440 * 0.95, rel=0.03)
    assert hours[19] > 3 * hours[7]


def test_an_incident_takes_its_share_of_successes_and_touches_nothing_else() -> None:
    """Forty percent of the successes of one step and os are lost, between its start and its end."""
    incident = Incident(T0 + HOUR, T0 + 2 * HOUR, "VERIFY_SMS_CODE", 0.4, {"os": "iOS"})
    with_it = list(Simulator(rate=300, incidents=[incident]).events(T0, T0 + 3 * HOUR))
    without = list(Simulator(rate=300).events(T0, T0 + 3 * HOUR))
    during = [
        rates([e for e in events if T0 + HOUR <= e["ts"] < T0 + 2 * HOUR])["VERIFY_SMS_CODE", "iOS"]
        for events in (with_it, without)
    ]
    assert during[0] / during[1] == pytest.approx(0.6, abs=0.03)
    assert [e for e in with_it if e["ts"] < T0 + HOUR] == [e for e in without if e["ts"] < T0 + HOUR]
    assert [e for e in with_it if e["os"] != "iOS"] == [e for e in without if e["os"] != "iOS"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": 1.4}, "loss: 1.4 is not between 0 and 1"),
        ({"end_ms": 0}, "ends before it starts"),
        ({"where": {"status": "FAILURE"}}, "status: is a field of an event, not a dimension"),
    ],
)
def test_an_incident_that_cannot_be_is_rejected(changes: dict[str, Any], message: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(ValueError, match=message):
        Incident(**{"start_ms": 1, "end_ms": 2, "step": "A", "loss": 0.4, **changes})


def test_further_dimensions_have_their_shares_and_change_nothing_else() -> None:
    """Each session has one value of each; an incident may concern one of them only."""
    dimensions = (Dimension.parse("country=DE:0.6,US:0.4"), Dimension.parse("plan=a"))
    profile = replace(SIGN_UP_PROFILE, dimensions=dimensions)
    incident = Incident(T0, T0 + HOUR, "VERIFY_SMS_CODE", 1.0, {"country": "US", "os": "iOS"})
    events = list(Simulator(profile, rate=300, incidents=[incident]).events(T0, T0 + HOUR))
    of_session: dict[str, set[str]] = defaultdict(set)
    for event in events:
        assert event["contexts"].keys() == {"country", "plan"}
        of_session[event["sign_up_session_id"]].add(event["contexts"]["country"])
    assert {len(countries) for countries in of_session.values()} == {1}
    from_us = sum(countries == {"US"} for countries in of_session.values())
    assert from_us / len(of_session) == pytest.approx(0.4, abs=0.02)
    spared = [
        {**event, "contexts": {}} for event in events if (event["os"], event["contexts"]["country"]) != ("iOS", "US")
    ]
    without = {event["event_id"]: event for event in Simulator(rate=300).events(T0, T0 + HOUR)}
    assert spared == [without[event["event_id"]] for event in spared]
    assert not [
        event
        for event in events
        if (event["os"], event["contexts"]["country"]) == ("iOS", "US")
        and (event["step"], event["status"]) == ("VERIFY_SMS_CODE", "SUCCESS")
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("country", "country: the shares"),
        ("country=DE:much", "could not convert string to float"),
        ("country=DE:0.7,AT:0.7,CH", "country: the shares .* are not from 0 to 1 with the sum 1"),
        ("country=DE:0.7,DE", "country: the value 'DE' is there twice"),
        ("os=iOS", "os: is a field of every event already"),
        ("country=DE:0.6,US:0.5", "country: the shares .* are not from 0 to 1 with the sum 1"),
        ("country=DE:-1,US:2", "country: the shares"),
        ("Country=DE:1", "Country: is not the name of a dimension"),
        ("step=A:1", "step: is a field of an event, not a dimension"),
    ],
)
def test_a_dimension_that_cannot_be_is_rejected(text: str, message: str) -> None:
    """The message says what would be right."""
    with pytest.raises(ValueError, match=f"^'{text}': {message}.*; right would be like country="):
        Dimension.parse(text)


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("country=DE:0.5,AT:0.3,CH:0.2", {"DE": 0.5, "AT": 0.3, "CH": 0.2}),
        ("country=DE, AT, CH, LI", {"DE": 0.25, "AT": 0.25, "CH": 0.25, "LI": 0.25}),
        ("country=DE:0.5,AT,CH", {"DE": 0.5, "AT": 0.25, "CH": 0.25}),
        ("plan=a:b:0.5,a:c:0.5", {"a:b": 0.5, "a:c": 0.5}),
    ],
)
def test_values_without_a_share_divide_the_rest(text: str, shares: dict[str, float]) -> None:
    """Equally; a value may have a colon of its own where it has a share."""
    assert dict(Dimension.parse(text).values) == pytest.approx(shares)


def test_the_same_seed_gives_the_same_dimensions_wherever_a_run_is_cut() -> None:
    """A second dimension, or shares that are rounded, change nothing of the first."""
    thirds = Dimension.parse("country=DE:0.3333333,AT:0.3333333,CH:0.3333333")
    one, two = (
        replace(SIGN_UP_PROFILE, dimensions=many) for many in ((thirds,), (thirds, Dimension.parse("plan=a,b")))
    )
    whole, cut = list(Simulator(one).events(T0, T0 + HOUR)), T0 + HOUR // 3
    assert whole == [event for span in ((T0, cut), (cut, T0 + HOUR)) for event in Simulator(one).events(*span)]
    countries = [event["contexts"]["country"] for event in Simulator(two).events(T0, T0 + HOUR)]
    assert countries == [event["contexts"]["country"] for event in whole]
    assert set(countries) == {"DE", "AT", "CH"}
    other = [event["contexts"]["country"] for event in Simulator(one, seed=2).events(T0, T0 + HOUR)]
    assert other[:100] != countries[:100]


def test_a_dimension_that_is_there_twice_is_rejected() -> None:
    """One would hide the other."""
    with pytest.raises(ValueError, match="country: the dimension is there twice"):
        replace(SIGN_UP_PROFILE, dimensions=(Dimension.parse("country=DE"), Dimension.parse("country=AT")))


def test_an_incident_of_a_dimension_that_is_not_there_is_rejected() -> None:
    """A typing mistake must not make a quiet incident."""
    with pytest.raises(ValueError, match="country: is not a dimension; right would be one of os, browser"):
        Simulator(incidents=[Incident(0, 1, "INPUT_NAME", 0.4, {"country": "DE"})])


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"os": "ios"}, "os: no session has 'ios'; right would be one of Android, Desktop, iOS"),
        ({"country": "US"}, "country: no session has 'US'; right would be one of AT, DE"),
    ],
)
def test_an_incident_of_a_value_that_nobody_has_is_rejected(where: dict[str, str], message: str) -> None:
    """A typing mistake must not make a quiet incident."""
    profile = replace(SIGN_UP_PROFILE, dimensions=(Dimension.parse("country=DE,AT"),))
    with pytest.raises(ValueError, match=message):
        Simulator(profile, incidents=[Incident(0, 1, "INPUT_NAME", 0.4, where)])


def test_an_incident_at_a_step_that_is_not_there_is_rejected() -> None:
    """A typing mistake must not make a quiet incident."""
    with pytest.raises(ValueError, match="'SMS' is not one of INPUT_PHONE_NUMBER"):
        Simulator(incidents=[Incident(0, 1, "SMS", 0.4)])


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_paced_events_come_when_their_time_has_come(speed: float) -> None:
    """The past at once, the rest at its ts, twice as fast at speed 2."""
    now = 5000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds * 1000

    events = [{"ts": ts} for ts in (4000, 5000, 5500, 7000)]
    came = [(event["ts"], now) for event in paced(events, 5000, speed, clock_ms=lambda: now, sleep=sleep)]
    assert came == [(4000, 5000), (5000, 5000), (5500, 5000 + 500 / speed), (7000, 5000 + 2000 / speed)]
