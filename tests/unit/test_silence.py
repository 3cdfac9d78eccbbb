"""What a silence mutes: everything that lies within it, for its time, and never "resolved"."""

from __future__ import annotations

from typing import Any

import pytest

from funnelwatch.alert_rules.silences import Silence, muted, silence_of, silences_of


def alert(**changes: Any) -> dict[str, Any]:
    """What a silence looks at."""
    return {
        "rule": "Drop", "funnel": "f", "step": "A", "dimensions": {"os": "iOS"}, "state": "firing", "steps": []
    } | changes  # fmt: skip


def made(number: int, matchers: dict[str, str]) -> Silence:
    """A silence of the first 10 ms."""
    own = {name: value for name, value in matchers.items() if name in {"rule", "funnel", "step"}}
    dimensions = {name: value for name, value in matchers.items() if name not in own}
    return Silence(number, 0, 10, **own, dimensions=dimensions)  # type: ignore[arg-type]


COVERS: dict[str, tuple[dict[str, str], dict[str, Any], bool]] = {
    "its rule": ({"rule": "Drop"}, {}, True),
    "another rule": ({"rule": "Other"}, {}, False),
    "its funnel and step": ({"funnel": "f", "step": "A"}, {}, True),
    "its step of another funnel": ({"funnel": "g", "step": "A"}, {}, False),
    "its os": ({"os": "iOS"}, {}, True),
    "another os": ({"os": "Android"}, {}, False),
    "one os does not mute what is about all": ({"os": "iOS"}, {"dimensions": {}}, False),
    "a browser that the alert does not name": ({"os": "iOS", "browser": "Safari"}, {}, False),
    "all of a step mutes one os of it": ({"step": "A"}, {"dimensions": {"os": "iOS"}}, True),
    "one step does not mute an incident of several": ({"step": "A"}, {"steps": ["A", "B"]}, False),
    "a whole funnel mutes an incident of several steps": ({"funnel": "f"}, {"steps": ["A", "B"]}, True),
    "resolved is let through": ({"rule": "Drop"}, {"state": "resolved"}, False),
}


@pytest.mark.parametrize("name", COVERS)
def test_a_silence_mutes_what_lies_within_it(name: str) -> None:
    """Every matcher must fit; what is wider than the silence is told."""
    matchers, changes, expected = COVERS[name]
    silence = made(7, matchers)

    assert muted(alert(**changes), [silence], 5)["silenced_by"] == ("7" if expected else "")


@pytest.mark.parametrize(
    ("now", "state", "mutes"), [(9, "pending", False), (10, "active", True), (20, "expired", False)]
)
def test_a_silence_mutes_from_its_start_until_before_its_end(now: int, state: str, mutes: bool) -> None:
    """Its time is half-open."""
    silence = Silence(1, 10, 20, rule="Drop")

    assert silence.state(now) == state
    assert (silence_of(alert(), [silence], now) is silence) == mutes


def test_of_several_silences_the_one_that_lasts_longest_is_named() -> None:
    """Whoever reads it knows when it will be said."""
    silences = [
        Silence(1, 0, 20, rule="Drop"),
        Silence(2, 0, 30, dimensions={"os": "iOS"}),
        Silence(3, 0, 40, dimensions={"os": "Android"}),
    ]

    assert muted(alert(), silences, 5)["silenced_by"] == "2"


def incident(*series: str) -> dict[str, Any]:
    """An incident of several series, such as ``A`` or ``B/iOS``."""
    members = []
    for one in series:
        step, _, system = one.partition("/")
        members.append({"step": step, "dimensions": {"os": system} if system else {}})
    steps = sorted({member["step"] for member in members})
    return alert(step=members[0]["step"], dimensions=members[0]["dimensions"], steps=steps, series=members)


TOGETHER: dict[str, tuple[dict[str, Any], list[dict[str, str]], str]] = {
    "one for each step": (incident("A", "B"), [{"step": "A"}, {"step": "B"}], "1,2"),
    "one for each step, said in another order": (incident("A", "B"), [{"step": "B"}, {"step": "A"}], "1,2"),
    "a step that nobody silenced": (incident("A", "B", "C"), [{"step": "A"}, {"step": "B"}], ""),
    "a step and an os": (incident("A", "B/iOS"), [{"step": "A"}, {"os": "iOS"}], "1,2"),
    "an os of a step that is about every os": (incident("A/iOS", "B"), [{"os": "iOS"}], ""),
    "steps of the leader's os, one of them in all": (incident("A/iOS", "B"), [{"os": "iOS"}, {"step": "B"}], "1,2"),
    "a step by two silences, each for one os": (
        incident("A"),
        [{"step": "A", "os": "iOS"}, {"step": "A", "os": "a"}],
        "",
    ),
    "the wrong funnel for one step": (incident("A", "B"), [{"step": "A"}, {"step": "B", "funnel": "g"}], ""),
    "one that covers all is enough": (incident("A", "B"), [{"step": "A"}, {"step": "B"}, {"rule": "Drop"}], "3"),
    "an alert from before incidents had series": (alert(steps=["A", "B"]), [{"step": "A"}, {"step": "B"}], "1,2"),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_silences_mute_an_incident_when_together_they_cover_each_of_its_series(name: str) -> None:
    """No series is left over, by step or by os."""
    message, matchers, expected = TOGETHER[name]
    silences = [made(number, one) for number, one in enumerate(matchers, 1)]

    assert muted(message, silences, 5)["silenced_by"] == expected
    assert muted({**message, "state": "resolved"}, silences, 5)["silenced_by"] == ""


def test_an_incident_is_muted_while_all_of_its_silences_last() -> None:
    """One begins later and one ends earlier: it is told before and after."""
    silences = [Silence(1, 0, 20, step="A"), Silence(2, 10, 40, step="B"), Silence(3, 15, 30, step="A")]

    names = {now: muted(incident("A", "B"), silences, now)["silenced_by"] for now in (0, 9, 10, 15, 20, 29, 30, 40)}

    assert names == {0: "", 9: "", 10: "1,2", 15: "3,2", 20: "3,2", 29: "3,2", 30: "", 40: ""}
    first = silence_of(incident("A", "B"), silences, 15)
    assert first is not None
    assert (first.id, [one.id for one in silences_of(incident("A", "B"), silences, 9)]) == (3, [])


def test_an_incident_that_widens_beyond_its_silences_is_told() -> None:
    """Both steps that dropped first are silenced; the third that joins is news."""
    silences = [Silence(1, 0, 10, step="A"), Silence(2, 0, 10, step="B")]

    assert muted(incident("A", "B"), silences, 5)["silenced_by"] == "1,2"
    assert muted(incident("A", "B", "C"), silences, 5)["silenced_by"] == ""
