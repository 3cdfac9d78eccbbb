"""What a silence mutes: everything that lies within it, for its time, and never "resolved"."""

from __future__ import annotations

from typing import Any

import pytest

from stream.detector.silence import Silence, muted, silence_of


def alert(**changes: Any) -> dict[str, Any]:
    """What a silence looks at."""
    return {
        "rule": "Drop", "funnel": "f", "step": "A", "dimensions": {"os": "iOS"}, "state": "firing", "steps": []
    } | changes  # fmt: skip


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
    silence = Silence(7, 0, 10, **matchers)  # type: ignore[arg-type]

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
    silences = [Silence(1, 0, 20, rule="Drop"), Silence(2, 0, 30, os="iOS"), Silence(3, 0, 40, os="Android")]

    assert muted(alert(), silences, 5)["silenced_by"] == "2"
