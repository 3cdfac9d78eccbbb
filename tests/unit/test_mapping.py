"""Mapping files: each bad one is rejected with a helpful message, and good ones give the events they describe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from funnelwatch.producers.files.mapper import Mapper, Rejected
from funnelwatch.producers.files.mapping import Mapping, MappingFileError, load_mapping

FIXTURES = Path(__file__).parents[1] / "fixtures" / "mappings"
SHOP: dict[str, Any] = {
    "funnel": "shop",
    "session_id": "session",
    "ts": {"column": "at", "format": "ms"},
    "event": "name",
    "events": {
        "shown": [{"step": "form", "phase": "IMPRESSION"}],
        "sent": [
            {"step": "form", "phase": "POST_VERIFICATION", "status": "SUCCESS"},
            {"step": "next", "phase": "IMPRESSION"},
        ],
        "wrong": [{"step": "form", "phase": "POST_VERIFICATION", "status": "FAILURE"}],
        "other": [],
    },
}


def mapper(**changes: Any) -> Mapper:
    """A mapper of the shop's mapping with changes."""
    return Mapper(Mapping.model_validate(SHOP | changes))


def row(name: str, at: int = 1000, session: str = "s-1", **more: Any) -> dict[str, Any]:
    """A row of the shop."""
    return {"session": session, "at": at, "name": name, **more}


def brief(events: list[dict[str, Any]]) -> list[tuple[str, str, int | None]]:
    """Step, what happened, and duration."""
    return [(event["step"], event["status"] or "SHOWN", event["duration_ms"]) for event in events]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("a-list", 1, "file: is a list, not a map; right would be a map with funnel"),
        ("column-and-value", 3, "os: must have either column or value; right would be"),
        ("events-empty", 5, "events: is empty; right would be"),
        ("key-misspelt", 3, "once_a_session: is not a known field; right would be once_per_session"),
        ("not-yaml", 7, "YAML: expected the node content"),
        ("phase-unknown", 7, r"events\.shown\[0\]\.phase: must be 'IMPRESSION' or 'POST_VERIFICATION', not 'SHOWN'"),
        ("session-missing", 1, "session_id: is missing"),
        ("status-missing", 9, r"events\.sent\[0\]\.status: is missing, .*; right would be SUCCESS or FAILURE"),
        ("status-of-impression", 7, r"events\.shown\[0\]\.status: an IMPRESSION has none; right would be"),
        ("step-empty", 7, r"events\.shown\[0\]\.step: is empty"),
        ("time-format-unknown", 3, r"ts\.format: 'german' is not a format; right would be iso, s, ms"),
        ("time-zone-unknown", 3, r"ts\.timezone: 'Berlin' is not a time zone; right would be UTC or Europe/Berlin"),
    ],
)
def test_a_bad_mapping_is_rejected_with_file_line_and_what_would_be_right(name: str, line: int, message: str) -> None:
    """Each fixture is named for its error."""
    with pytest.raises(MappingFileError, match=rf"{name}\.yml:{line}: {message}"):
        load_mapping(FIXTURES / f"{name}.yml")


def test_every_bad_fixture_is_read_by_a_test() -> None:
    """Twelve bad ones and the good one that they were made of."""
    assert len(list(FIXTURES.glob("*.yml"))) == 13
    assert load_mapping(FIXTURES / "good.yml").funnel == "shop"


def test_a_mapping_that_is_not_there_is_named() -> None:
    """The message has the path and the system's reason."""
    with pytest.raises(MappingFileError, match=r"nowhere\.yml: cannot be read: No such file"):
        load_mapping(FIXTURES / "nowhere.yml")


def test_one_row_can_make_several_events_with_ids_of_their_own() -> None:
    """The click that sends a form shows the next one."""
    events = mapper()(row("sent"), 1)
    assert brief(events) == [("form", "SUCCESS", None), ("next", "SHOWN", None)]
    assert len({event["event_id"] for event in events}) == 2


def test_ids_depend_on_content_and_place_alone() -> None:
    """The same file read twice makes the same ids; the same content on another line another id."""
    first, again, below = (mapper()(row("shown"), line)[0]["event_id"] for line in (1, 1, 2))
    assert first == again != below


def test_a_column_of_ids_is_used_where_there_is_one() -> None:
    """A row that makes one event passes its id on unchanged."""
    assert mapper(event_id="id")(row("shown", id="e-1"), 1)[0]["event_id"] == "e-1"


def test_dimensions_are_mapped_or_fixed_or_defaulted() -> None:
    """A value map, a constant and a default; what the map does not list stays."""
    rows = mapper(
        os={"column": "platform", "values": {"ios": "iOS"}, "default": "none"},
        browser={"value": "Safari"},
        contexts={"country": "land"},
    )
    for platform, os in (("ios", "iOS"), ("Android", "Android"), ("", "none"), (None, "none")):
        event = rows(row("shown", platform=platform, land="DE"), 1)[0]
        assert (event["os"], event["browser"], event["contexts"]) == (os, "Safari", {"country": "DE"})


@pytest.mark.parametrize(
    ("time", "text", "ms"),
    [
        ({"format": "s"}, "1700000000.5", 1_700_000_000_500),
        ({"format": "ms"}, 1_700_000_000_123, 1_700_000_000_123),
        ({"format": "iso"}, "2023-11-14T22:13:20Z", 1_700_000_000_000),
        ({"format": "iso", "timezone": "Europe/Berlin"}, "2023-11-14T23:13:20", 1_700_000_000_000),
        ({"format": "iso", "timezone": "Europe/Berlin"}, "2023-11-14T22:13:20+00:00", 1_700_000_000_000),
        ({"format": "%d.%m.%Y %H:%M:%S"}, "14.11.2023 22:13:20", 1_700_000_000_000),
    ],
)
def test_times_are_read_as_the_mapping_says(time: dict[str, str], text: Any, ms: int) -> None:
    """A zone in the text wins over that of the mapping."""
    assert mapper(ts={"column": "at", **time})(row("shown", at=text), 1)[0]["ts"] == ms


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (row("unheard of"), "UNKNOWN_EVENT"),
        (row("shown", session=""), "NO_SESSION"),
        ({"session": "s", "name": "shown"}, "NO_TIME"),
        ({"session": "s", "name": "shown", "at": "noon"}, "BAD_TIME"),
        ({"session": "s", "name": "shown", "at": "inf"}, "BAD_TIME"),
    ],
)
def test_a_row_that_lacks_something_is_rejected_with_the_reason(bad: dict[str, Any], reason: str) -> None:
    """The reason is for counting."""
    with pytest.raises(Rejected) as caught:
        mapper()(bad, 1)
    assert caught.value.reason == reason


def test_a_name_that_is_not_listed_can_be_ignored() -> None:
    """Where the mapping says so, an unknown name is no error."""
    assert mapper(other_events="ignore")(row("unheard of"), 1) == []


def test_once_per_session_counts_the_first_of_each_and_dates_it_by_its_impression() -> None:
    """Shown twice, wrong twice, right twice: one impression, one failure, one success."""
    rows = mapper(once_per_session=True)
    steps = [("shown", 1000), ("shown", 2000), ("wrong", 3000), ("wrong", 4000), ("sent", 5000), ("sent", 6000)]
    made = [event for line, (name, at) in enumerate(steps) for event in rows(row(name, at), line)]
    expected = [("form", "SHOWN", None), ("form", "FAILURE", 2000), ("form", "SUCCESS", 4000), ("next", "SHOWN", None)]
    assert brief(made) == expected


def test_once_per_session_leaves_out_a_verdict_on_what_was_never_shown() -> None:
    """So that no rate is above 1."""
    assert brief(mapper(once_per_session=True)(row("sent"), 1)) == [("next", "SHOWN", None)]


def test_memory_of_sessions_is_bounded_and_forgets_the_one_not_seen_for_longest() -> None:
    """With room for two, the third session pushes out the one that was quiet."""
    rows = mapper(once_per_session=True, remember_sessions=2)
    seen = [len(rows(row("shown", session=session), 1)) for session in ("a", "b", "a", "c", "a", "b")]
    assert seen == [1, 1, 0, 1, 0, 1]
