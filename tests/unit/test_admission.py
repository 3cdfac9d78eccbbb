"""Which names of events are counted as they are, folded or rejected."""

from __future__ import annotations

import pytest

from funnelwatch.producers.collector.intake import Checks, Invalid
from funnelwatch.schemas.admission import OTHER, Admitting, SeriesLimits
from funnelwatch.schemas.codec import Decoder, Encoder
from funnelwatch.schemas.counts import Series
from funnelwatch.schemas.funnels import DeclaredFunnels, Funnel
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.validation import Limits, RejectedError, RejectionReason
from funnelwatch.stream.intake.batches import Record, RecordBatch, Records
from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.validator import EventValidator
from tests.traffic import event, now_ms

DECLARED = DeclaredFunnels({"sign_up": Funnel(("A", "B"))})
LIMITS = SeriesLimits(funnels=3, steps=4, values=5, series=12, undeclared_series=6)


@pytest.fixture
def admit() -> Admitting:
    """Nothing is known yet."""
    return Admitting(DECLARED, LIMITS, {})


def series(funnel: str = "sign_up", step: str = "A", os: str = "iOS", browser: str = "", version: str = "1") -> Series:
    """One."""
    return Series.of(funnel, step, os=os, browser=browser, app_version=version)


def reason(found: object) -> RejectionReason | None:
    """Why it is rejected; None if it is not."""
    return found.reason if isinstance(found, RejectedError) else None


def test_undeclared_funnels_beyond_the_limit_are_rejected_and_declared_ones_never(admit: Admitting) -> None:
    """Of 600 invented funnels three are counted, whatever order they come in; the declared one always."""
    found = [reason(admit(series(f"invented {number}"))) for number in range(600)]
    assert found == [None] * 3 + [RejectionReason.TOO_MANY_FUNNELS] * 597
    assert admit(series()) == series()
    assert reason(admit(series("invented 1", "B"))) is None
    assert len(admit.new) == 5


def test_steps_of_an_undeclared_funnel_beyond_the_limit_are_rejected(admit: Admitting) -> None:
    """A folded step would be no step; the steps of before go on."""
    found = [reason(admit(series("other", f"S{number}"))) for number in range(600)]
    assert found == [None] * 4 + [RejectionReason.TOO_MANY_STEPS] * 596
    assert admit(series("other", "S1")) == series("other", "S1")


@pytest.mark.parametrize("dimension", ["os", "browser", "app_version", "country"])
def test_values_beyond_the_limit_are_folded_and_the_others_stay_as_they_are(admit: Admitting, dimension: str) -> None:
    """Of 5,000 invented values five have a name, the others count under (other), in the same step."""
    given = {"os": "iOS", "app_version": "1"}
    found = [admit(Series.of("sign_up", "A", **given | {dimension: f"x{number}"})) for number in range(5_000)]
    values = {one.value(dimension) for one in found if isinstance(one, Series)}
    assert len(values - {OTHER}) <= LIMITS.values
    assert OTHER in values
    assert all(isinstance(one, Series) and one.step == "A" for one in found)
    assert len(admit.new) <= LIMITS.values + 1


def test_an_empty_value_always_has_room(admit: Admitting) -> None:
    """A browser that is not known is no browser that somebody invented."""
    for number in range(100):
        admit(series(browser=f"x{number}"))
    assert admit(series(browser="")) == series(browser="")


def test_combinations_beyond_the_limit_are_folded_by_step(admit: Admitting) -> None:
    """Five systems by five versions are within the values and beyond the series: what is too much keeps its step."""
    found = [admit(series("sign_up", step, f"o{a}", "", f"v{b}")) for step in "AB" for a in range(5) for b in range(5)]
    assert found[:12] == [series("sign_up", "A", f"o{at // 5}", "", f"v{at % 5}") for at in range(12)]
    assert set(found[12:]) == {Series.of("sign_up", step, os=OTHER, browser=OTHER, app_version=OTHER) for step in "AB"}


def test_what_was_admitted_stays_as_it_is_when_there_is_no_room_any_more(admit: Admitting) -> None:
    """The same series count the same, before a flood and after it."""
    before = [admit(series(version=str(number))) for number in range(4)]
    for number in range(1_000):
        admit(series(version=f"x{number}", os=f"y{number}"))
    assert [admit(series(version=str(number))) for number in range(4)] == before


def test_an_undeclared_funnel_cannot_use_up_the_series_of_a_declared_one(admit: Admitting) -> None:
    """Each funnel has room of its own."""
    for number in range(100):
        admit(series("other", "S", f"o{number}", f"b{number}", f"v{number}"))
    assert admit(series(version="new")) == series(version="new")


def test_a_validator_counts_folded_events_and_sends_rejected_ones_to_the_dead_letters() -> None:
    """In bulk and one by one: no event vanishes, each is counted under what it was admitted as or has a reason."""
    admitting = Admitting(DECLARED, LIMITS, {})
    validator = EventValidator(
        Decoder("FunnelEvent"),
        {},
        Limits(300_000, 10**11),
        10**6,
        admit=lambda wanted: {one: admitting(one) for one in wanted},
    )
    encode = Encoder("FunnelEvent")
    sent = [event(app_version=f"v{number}") for number in range(40)]
    sent += [event(funnel=f"invented {number}") for number in range(40)]
    records = [Record(at, b"k", encode(one), now_ms()) for at, one in enumerate(sent)]
    validated = validator(RecordBatch(0, 0, 80, Records.of(records)), SeenIds(600_000), now_ms())
    names = [validated.accepted.names[number] for number in validated.accepted.series.tolist()]
    assert sum(one.funnel == "sign_up" for one in names) == 40
    assert sum(one.value("app_version") == OTHER for one in names) == 35
    assert sum(one.funnel != "sign_up" for one in names) == 3
    assert [one.reason for one in validated.rejected] == ["TOO_MANY_FUNNELS"] * 37
    assert sorted(one.record.offset for one in validated.rejected) == [one.record.offset for one in validated.rejected]
    again = validator(RecordBatch(0, 80, 160, Records.of(records)), SeenIds(600_000), now_ms())
    assert len(again.rejected) == 37


def test_a_deployment_can_reject_every_undeclared_funnel() -> None:
    """With FUNNELWATCH_UNDECLARED_FUNNELS=reject an event of a funnel that nobody declared is a dead letter."""
    validator = EventValidator(
        Decoder("FunnelEvent"), DECLARED, Limits(300_000, 10**11, accepts_undeclared=False), 10**6
    )
    encode = Encoder("FunnelEvent")
    sent = [event(funnel="invented"), event(step="A")]
    records = [Record(at, b"k", encode(one), now_ms()) for at, one in enumerate(sent)]
    validated = validator(RecordBatch(0, 0, 2, Records.of(records)), SeenIds(600_000), now_ms())
    assert [(one.record.offset, one.reason) for one in validated.rejected] == [(0, "UNDECLARED_FUNNEL")]
    assert "reject" in validated.rejected[0].detail
    assert validated.accepted.offsets.tolist() == [1]


def test_the_collector_answers_at_once_that_a_funnel_is_not_declared() -> None:
    """Its sender is told the field and the reason, and nothing is written to Kafka."""
    checks = Checks(Settings(undeclared_funnels="reject"), DECLARED)
    given = {"funnel": "invented", "step": "A", "os": "iOS", "phase": "IMPRESSION", "sign_up_session_id": "s"}
    found = checks.complete(given, "", 0, now_ms())
    assert isinstance(found, Invalid)
    assert (found.field, "is not declared" in found.message) == ("funnel", True)
    assert isinstance(checks.complete({**given, "funnel": "sign_up"}, "", 0, now_ms()), dict)


def test_limits_of_a_funnel_win_over_those_of_the_settings() -> None:
    """One dimension has its own limit, the other the settings'; the funnel has its own limit on series."""
    funnels = {"sign_up": Funnel(("A",), values={"os": 2}, max_series=4)}
    admit = Admitting(funnels, LIMITS, {})
    systems = [admit(series(os=f"o{number}")) for number in range(5)]
    assert [one.value("os") for one in systems if isinstance(one, Series)] == ["o0", "o1", OTHER, OTHER, OTHER]
    assert admit(series(os="o0", version="2")) == series(os="o0", version="2")
    assert admit(series(os="o1", version="2")) == Series.of(
        "sign_up", "A", os=OTHER, browser=OTHER, app_version=OTHER
    ), "there are four"


def test_a_funnel_that_is_full_folds_its_own_dimensions() -> None:
    """Those that it declares, and no others."""
    admit = Admitting({"sign_up": Funnel(("A",), dimensions=("os", "country"), max_series=1)}, LIMITS, {})
    assert admit(Series.of("sign_up", "A", os="iOS")) == Series.of("sign_up", "A", os="iOS")
    assert admit(Series.of("sign_up", "A", os="Android")) == Series.of("sign_up", "A", os=OTHER, country=OTHER)


def test_the_funnels_file_wins_over_the_settings_about_undeclared_funnels() -> None:
    """Where the file has no word about them the settings decide."""
    settings = Settings(undeclared_funnels="accept", undeclared_max_funnels=7)
    rejecting = DeclaredFunnels(DECLARED, undeclared="reject")
    assert (Limits.of(settings, funnels=DECLARED).accepts_undeclared, SeriesLimits.of(settings, DECLARED).funnels) == (
        True,
        7,
    )
    assert not Limits.of(settings, funnels=rejecting).accepts_undeclared
    assert SeriesLimits.of(settings, DeclaredFunnels(DECLARED, undeclared_funnels=0)).funnels == 0
