"""A bridge: what was added to counters through resets and crashes, each increment once, and files it cannot use."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from funnelwatch.producers.bridge.deltas import START_TIME, Seen, State, done, plan, records
from funnelwatch.producers.bridge.mapping import BridgeFileError, Map, load_targets

SHOWN = Map.model_validate(
    {"metric": "shown_total", "where": {"env": "prod"},
     "event": {"phase": "IMPRESSION", "step": "{step}", "os": "{platform|unknown}"}}
)  # fmt: skip
SENT = Map.model_validate({"metric": "sent_total", "counter": {"name": "sms_sent", "dimensions": {"os": "{platform}"}}})
MAPS = [SHOWN, SENT]
GAP_MS = 10_000.0


def shown(value: float, **labels: str) -> Seen:
    """A series of the first map."""
    return Seen("shown_total", {"env": "prod", "step": "A", **labels}, value)


def emitted(state: State) -> list[dict[str, Any]]:
    """What a plan stands for."""
    return [fields for _, fields in records("web", state, MAPS, GAP_MS)]


def scraped(state: State, now_ms: int, *seen: Seen) -> list[dict[str, Any]]:
    """What a scrape has added, all of it taken by Kafka."""
    plan(state, seen, MAPS, now_ms)
    found = emitted(state)
    done(state)
    return found


def test_the_first_scrape_is_where_counting_begins_and_what_comes_later_begins_at_zero() -> None:
    """What an app counted before anybody asked is of no known time; a label that is new since is new."""
    state = State()
    assert scraped(state, 1_000, shown(500)) == []
    found = scraped(state, 6_000, shown(502), shown(1, platform="iOS"))
    assert [(one["os"], one["ts"]) for one in found] == [("unknown", 6_000)] * 2 + [("iOS", 6_000)]
    assert len({one["event_id"] for one in found}) == 3
    assert (found[0]["phase"], found[0]["status"], found[0]["step"]) == ("IMPRESSION", None, "A")


def test_labels_become_further_dimensions() -> None:
    """One whose label is missing or empty is left out."""
    contexts = {"country": "{geo}", "plan": "{plan|free}"}
    event = {"phase": "IMPRESSION", "step": "A", "os": "iOS", "contexts": contexts}
    maps = [Map.model_validate({"metric": "shown_total", "event": event})]
    state = State(scraped_ms=0)
    plan(state, [shown(1, geo="DE", plan="pro"), shown(1, geo="")], maps, 5_000)
    found = [fields["contexts"] for _, fields in records("web", state, maps, GAP_MS)]
    assert found == [{"country": "DE", "plan": "pro"}, {"plan": "free"}]


def test_another_environment_and_what_is_no_count_are_left() -> None:
    """Filters hold; NaN, infinity and negative values are none of a counter's."""
    state = State()
    scraped(state, 0)
    odd = [shown(float(value), step=str(value)) for value in ("nan", "inf", -3)]
    assert scraped(state, 5_000, Seen("shown_total", {"env": "test", "step": "A"}, 9), *odd) == []


def test_a_reset_is_known_by_a_smaller_value_or_by_a_new_start_time() -> None:
    """After a restart all that the counter has is new, also when it has passed the old value already."""
    state = State()
    scraped(state, 0, shown(5), Seen(START_TIME, {}, 100.0))
    assert len(scraped(state, 5_000, shown(2), Seen(START_TIME, {}, 100.0))) == 2
    assert len(scraped(state, 10_000, shown(7), Seen(START_TIME, {}, 200.0))) == 7
    assert len(scraped(state, 15_000, shown(8), Seen(START_TIME, {}, 200.0))) == 1


def test_a_counter_is_one_sample_with_its_dimensions() -> None:
    """A dimension without a value is left out."""
    state = State()
    scraped(state, 0)
    [one, two] = scraped(state, 5_000, Seen("sent_total", {"platform": "iOS"}, 3.0), Seen("sent_total", {}, 4.0))
    assert (one["name"], one["kind"], one["value"], one["dimensions"]) == ("sms_sent", "COUNTER", 3, {"os": "iOS"})
    assert two["dimensions"] == {}
    assert one["event_id"] != two["event_id"]


def test_what_was_counted_while_the_bridge_was_down_is_dated_evenly_over_that_time() -> None:
    """Not all at its end, where it would look like a surge."""
    state = State()
    scraped(state, 0, shown(0))
    assert [one["ts"] for one in scraped(state, 100_000, shown(4))] == [25_000, 50_000, 75_000, 100_000]


@pytest.mark.parametrize("seed", range(20))
def test_every_increment_is_there_once_through_resets_and_crashes(seed: int) -> None:
    """A bridge that crashes before or after Kafka has a plan repeats it to the letter; apps restart as they like."""
    chance = random.Random(seed)
    state, sent, truth = State(), dict[str, dict[str, Any]](), 0
    values, start = {"A": 0, "B": 0}, 1.0
    scraped(state, 0, *(shown(0, step=step) for step in values))
    for now_ms in range(5_000, 300_000, 5_000):
        for step in values:
            added = chance.randrange(4)
            values[step] += added
            truth += added
        seen = [*(shown(value, step=step) for step, value in values.items()), Seen(START_TIME, {}, start)]
        if not state.plan:
            plan(state, seen, MAPS, now_ms)
            state = State.from_json(state.to_json())
        for one in emitted(state)[: None if chance.random() < 0.8 else 2]:
            assert sent.setdefault(one["event_id"], one) == one, "the same id is another event"
        if chance.random() < 0.7:
            for one in emitted(state):
                sent[one["event_id"]] = one
            done(state)
            # What an app counts after it was asked for the last time, and before it restarts, nobody can know.
            asked = {json.loads(key)[1][1][1]: life.value for key, life in state.counters.items()}
            if asked == values and chance.random() < 0.3:
                values, start = dict.fromkeys(values, 0), start + 1
        state = State.from_json(state.to_json())
    if state.plan:
        for one in emitted(state):
            sent[one["event_id"]] = one
        done(state)
    last = scraped(state, 400_000, *(shown(value, step=step) for step, value in values.items()))
    assert len({*sent, *(one["event_id"] for one in last)}) == truth


def test_the_file_on_the_page_can_be_used(tmp_path: Path) -> None:
    """A copy of it is a working bridge."""
    page = (Path(__file__).parents[2] / "docs" / "prometheus.md").read_text()
    found = re.findall(r"<!-- checked by tests/unit/test_bridge.py -->\n```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "f.yml").write_text(found[0])
    [target] = load_targets(tmp_path / "f.yml")
    assert [one.metric for one in target.maps][-1] == "sms_sent_total"


MESSAGES = {
    "no targets": ("targets: []", "f.yml:1: targets: is empty; right would be a list such as"),
    "typing error": (
        "targets:\n  - name: a\n    uri: x\n",
        "f.yml:3: targets[0].uri: is not a known field; right would be url",
    ),
    "no address": (
        "targets:\n  - name: a\n    url: web:80\n    maps: [{metric: m, counter: {name: c}}]",
        "f.yml:3: targets[0].url: is not an address of http or https; right would be an address such as http://web",
    ),
    "two meanings": (
        "targets:\n  - name: a\n    url: http://w\n    maps:\n      - metric: m",
        "f.yml:5: targets[0].maps[0].event: a map has either an event or a counter",
    ),
    "no status": (
        """
targets:
  - {name: a, url: http://w, maps: [{metric: m,
    event: {phase: POST_VERIFICATION, step: s, os: o}}]}""",
        "f.yml:4: targets[0].maps[0].event.status: a POST_VERIFICATION has one",
    ),
    "same name": (
        "targets:\n" + "  - {name: a, url: http://w, maps: [{metric: m, counter: {name: c}}]}\n" * 2,
        "f.yml:1: targets: two have the same name",
    ),
}


@pytest.mark.parametrize("case", MESSAGES)
def test_a_bad_file_is_rejected_by_line_and_field(case: str, tmp_path: Path) -> None:
    """Its author can correct it."""
    text, expected = MESSAGES[case]
    (tmp_path / "f.yml").write_text(text)
    with pytest.raises(BridgeFileError) as error:
        load_targets(tmp_path / "f.yml")
    assert str(error.value).startswith(f"{tmp_path}/{expected}")
