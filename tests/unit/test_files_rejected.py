"""Files of funnels, mappings, bridges and keys: what would be accepted and do nothing is rejected, and helpfully."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from funnelwatch.producers.bridge.mapping import BridgeFileError, load_targets
from funnelwatch.producers.collector.keys import KeysError, load_keys
from funnelwatch.producers.collector.line_mapping import LinesFileError, load_line_mapping
from funnelwatch.producers.files.mapping import MappingFileError, load_mapping
from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).parents[1] / "fixtures"


def keys_of(path: Path) -> object:
    """The collector's keys of a file."""
    return load_keys(Settings(collector_keys_path=path))


LOADERS: dict[str, tuple[Callable[[Path], object], type[Exception]]] = {
    "funnels": (load_funnels, FunnelsFileError),
    "row_mappings": (load_mapping, MappingFileError),
    "bridge": (load_targets, BridgeFileError),
    "lines": (load_line_mapping, LinesFileError),
    "keys": (keys_of, KeysError),
}
FAULTS = {
    "funnels": {
        "document-a-list": ":1: has no funnels; right would be 'funnels: {sign_up: [STEP, STEP]}'",
        "documents-two": ":2: YAML: but found another document; right would be well-formed YAML with e",
        "funnel-twice": ':3: YAML: found duplicate key "a"; right would be well-formed YAML with each',
        "funnels-a-list": ":1: has no funnels; right would be 'funnels: {sign_up: [STEP, STEP]}'",
        "funnels-empty": ":1: has no funnels; right would be 'funnels: {sign_up: [STEP, STEP]}'",
        "name-empty": ":2: funnel '': the name '' is empty; right would be a name such as VERIFY_SM",
        "name-number": ":2: funnel 5: the name is no text; right would be a name, in quotes where YA",
        "name-star": ":2: funnel *: is every funnel; right would be a name such as sign_up",
        "name-too-long": ":2: funnel 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "name-true": ":2: funnel True: the name is no text; right would be a name, in quotes where",
        "name-with-space": ":2: funnel 'a ': the name 'a ' begins or ends with a space, and would match ",
        "step-all": ":2: funnel a: all is every step; right would be the name of one step",
        "step-control-character": ":2: funnel a: step 2: 'B\\nC' has a line break or another character that nob",
        "step-empty": ":2: funnel a: step 2: '' is empty; right would be a name such as VERIFY_SMS_",
        "step-null": ":4: funnel a: step 2: is no text; right would be a name, in quotes where YAM",
        "step-number": ":4: funnel a: step 2: is no text; right would be a name, in quotes where YAM",
        "step-twice": ":5: funnel a: a step stands twice: A; right would be each step once",
        "step-with-space": ":2: funnel a: step 2: 'B ' begins or ends with a space, and would match noth",
        "steps-a-text": ":2: funnel a: the steps must be a list of names, in order; right would be [S",
        "steps-empty": ":2: funnel a: the steps must be a list of names, in order; right would be [S",
        "steps-nested": ":4: funnel a: step 2: is no text; right would be a name, in quotes where YAM",
        "steps-null": ":2: funnel a: the steps must be a list of names, in order; right would be [S",
        "top-level-misspelt": ":1: funnel: is not a known field; right would be funnels",
        "top-level-unknown": ":2: undeclard: is not a known field; right would be funnels",
    },
    "row_mappings": {
        "column-empty": ":8: os.column: '' cannot be: String should have at least 1 character; right ",
        "column-number": ":8: os: 5 cannot be: Input should be a map or instance of Column; right woul",
        "contexts-a-list": ":8: contexts: ['country'] cannot be: Input should be a map; right would be a",
        "default-beside-value": ":8: os: default: does nothing beside value; right would be '{column: NAME, d",
        "event-made-twice": ":6: events.shown: makes the same event twice, of form; right would be each o",
        "event-name-empty": ":6: events.: '' cannot be: String should have at least 1 character; right wo",
        "event-unknown-field": ":7: events.shown.0.stepp: is not known here; right would be one of step, pha",
        "events-a-list": ":5: events: ['shown'] cannot be: Input should be a map; right would be a map",
        "funnel-empty": ":1: funnel: '' is empty; right would be the name of a funnel, such as sign_u",
        "funnel-number": ":1: funnel: 5 cannot be: Input should be a text; right would be the name of ",
        "funnel-with-space": ":1: funnel: 'shop ' begins or ends with a space, and would match nothing; ri",
        "key-twice": ":8: is not YAML",
        "made-a-map": ":6: events.shown: {'step': 'form', 'phase': 'IMPRESSION'} cannot be: Input s",
        "once-per-session-number": ":8: once_per_session: 1 cannot be: Input should be a valid boolean; right wo",
        "once-per-session-text": ":8: once_per_session: 'no' cannot be: Input should be a valid boolean; right",
        "other-events-unknown": ":8: other_events: 'drop' cannot be: Input should be 'reject' or 'ignore'; ri",
        "remember-sessions-fraction": ":8: remember_sessions: input should be a valid integer, not 10.5; right woul",
        "remember-sessions-infinite": ":8: remember_sessions: input should be a valid integer, not inf; right would",
        "remember-sessions-true": ":8: remember_sessions: input should be a valid integer, not True; right woul",
        "remember-sessions-zero": ":8: remember_sessions: 0 cannot be: Input should be greater than or equal to",
        "step-number": ":7: events.shown.0.step: 5 cannot be: Input should be a text; right would be",
        "step-too-long": ":7: events.shown.0.step: has 101 characters; an event with more than 100 is ",
        "step-with-space": ":7: events.shown.0.step: 'form ' begins or ends with a space, and would matc",
        "top-level-unknown": ":8: version: is not known here; right would be one of funnel, session_id, ts",
        "ts-a-list": ":3: ts: ['at'] cannot be: Input should be a map or instance of Time; right w",
        "ts-unknown-field": ":3: ts.fromat: is not known here; right would be one of column, format, time",
        "value-number": ":8: app_version.value: 1.1 cannot be: Input should be a text; right would be",
        "values-beside-value": ":8: os: values: does nothing beside value; right would be '{column: NAME, va",
        "values-number": ":8: os.values.ios: 5 cannot be: Input should be a text; right would be a map",
    },
    "bridge": {
        "braces-open": ":6: targets[0].maps[0].event.step: '{step' has braces that are not a label; ",
        "counter-no-name": ":6: targets[0].maps[0].counter.name: 'sms-sent' is not the name of a counter",
        "dimension-empty": ":6: targets[0].maps[0].counter.dimensions.os: '' is empty; right would be a ",
        "dimension-no-name": ":6: targets[0].maps[0].counter.dimensions.o-s: String should match pattern '",
        "event-unknown-field": ":6: targets[0].maps[0].event.device: is not a known field; right would be a ",
        "every-infinite": ":7: targets[0].every: inf is no span of time; right would be 5s or 1m",
        "every-number": ":7: targets[0].every: 5 is no span of time; right would be 5s or 1m",
        "every-too-long": ":7: targets[0].every: Input should be less than or equal to 86400; right wou",
        "every-true": ":7: targets[0].every: True is no span of time; right would be 5s or 1m",
        "every-zero": ":7: targets[0].every: Input should be greater than 0; right would be a span ",
        "key-twice": ':7: YAML: found duplicate key "metric"; right would be well-formed YAML with',
        "map-unknown-field": ":7: targets[0].maps[0].were: is not a known field; right would be a list suc",
        "maps-empty": ":4: targets[0].maps: List should have at least 1 item after validation, not ",
        "metric-empty": ":5: targets[0].maps[0].metric: String should match pattern '^[A-Za-z_:][A-Za",
        "metric-no-name": ":5: targets[0].maps[0].metric: String should match pattern '^[A-Za-z_:][A-Za",
        "name-with-space": ":2: targets[0].name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]",
        "phase-unknown": ":6: targets[0].maps[0].event.phase: Input should be 'IMPRESSION' or 'POST_VE",
        "step-empty": ":6: targets[0].maps[0].event.step: '' is empty; right would be a map with ph",
        "step-number": ":6: targets[0].maps[0].event.step: Input should be a text; right would be a ",
        "step-with-space": ":6: targets[0].maps[0].event.step: 'A ' begins or ends with a space, and wou",
        "target-unknown-field": ":7: targets[0].interval: is not a known field; right would be a list such as",
        "top-level-unknown": ":7: every: is not a known field; right would be a span such as 5s, up to 1d",
        "where-number": ":7: targets[0].maps[0].where.code: Input should be a text; right would be a ",
    },
    "lines": {
        "counter-braces-open": ": lines.1.counter.name: '{measurement' has braces that are not a placeholder",
        "counter-name-empty": ": lines.1.counter.name: String should have at least 1 character; right would",
        "counter-with-unit": ": lines.1: counter: unit is of a time, and does nothing here; right would be",
        "dimension-twice": ": lines.1.counter.dimensions: os stands twice; right would be a map such as ",
        "dimensions-a-text": ": lines.1.counter.dimensions: Input should be a list; right would be a map s",
        "dimensions-and-leave-out": ": lines.1.counter: leave_out: does nothing beside dimensions; right would be",
        "entry-never-reached": ": lines.2: is never reached: entry 1 takes every line of it; right would be ",
        "entry-twice": ": lines.2: is never reached: entry 1 takes every line of it; right would be ",
        "entry-unknown-field": ": lines.1.wehre: Extra inputs are not permitted; right would be 'lines: [{me",
        "event-a-text": ": lines.1.event: Input should be a map; right would be a map such as {step: ",
        "ignore-false": ": lines.1: must have one of event, counter, timer, 'ignore: true'; right wou",
        "ignore-number": ": lines.1.ignore: Input should be a valid boolean; right would be true or fa",
        "key-twice": ': is not YAML: line 4: YAML: found duplicate key "event"; right would be wel',
        "lines-empty": ": lines: Tuple should have at least 1 item after validation, not 0; right wo",
        "lines-missing": ": lines: Field required; right would be 'lines: [{measurement: NAME, event: ",
        "measurement-empty": ": lines.1.measurement: String should have at least 1 character; right would ",
        "others-unknown": ": others: Input should be 'reject' or 'ignore'; right would be reject or ign",
        "timer-unit-unknown": ": lines.1.timer.unit: Input should be 'ns', 'us', 'ms' or 's'; right would b",
        "timer-unknown-field": ": lines.1.timer.units: Extra inputs are not permitted; right would be a map ",
        "top-level-unknown": ": fallback: Extra inputs are not permitted; right would be 'lines: [{measure",
        "values-beside-value": ": lines.1.event.os: values: does nothing beside value; right would be '{from",
        "where-number": ": lines.1.where.code: Input should be a text; right would be a map of tags t",
    },
    "keys": {
        "field-unknown": ": key 1: is not of the form {name: web, sha256: <64 hex digits>, use: [event",
        "hash-number": ": key 1: web: the hash is not 64 hex digits; 'funnelwatch collector-key' mak",
        "hash-too-short": ": key 1: web: the hash is not 64 hex digits; 'funnelwatch collector-key' mak",
        "key-twice": ":4: is not YAML; right would be well-formed YAML with each key once",
        "name-number": ": key 1: has no name; right would be {name: web, sha256: <64 hex digits>, us",
        "name-with-space": ": key 1: 'web ': the name has a space at an end, or a character that nobody ",
        "origin-in-capitals": ": key 1: web: origins: 'https://App.example' is no origin that a browser sen",
        "origin-number": ": key 1: web: origins: [5] is not a list like ['https://app.example'] (line ",
        "origin-star": ": key 1: web: origins: '*' is no origin that a browser sends; right would be",
        "origin-with-path": ": key 1: web: origins: 'https://app.example/shop' is no origin that a browse",
        "origin-without-scheme": ": key 1: web: origins: 'app.example' is no origin that a browser sends; righ",
        "origins-empty": ": key 1: web: origins: is empty; right would be a list, or no origins where ",
        "same-hash": "the API keys web and app are the same key; right would be one name for it",
        "top-level-unknown": ": default: is not known; right would be 'keys: [{name: web, sha256: <64 hex ",
        "use-a-text": ": key 1: web: use: 'events' is not a list of events, lines; right would be e",
        "use-empty": ": key 1: web: use: [] is not a list of events, lines; right would be each on",
        "use-nested": ": key 1: web: use: [['events']] is not a list of events, lines; right would ",
        "use-twice": ": key 1: web: use: ['events', 'events'] is not a list of events, lines; righ",
    },
}
"""By folder and fixture: how the message goes on behind the file's name, the line or the place first."""


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, faults in FAULTS.items() for name in faults])
def test_a_bad_file_is_rejected_with_place_fault_and_remedy(kind: str, name: str) -> None:
    """Whoever wrote it finds the place, and what to write there."""
    load, error = LOADERS[kind]
    path = FIXTURES / kind / f"{name}.yml"
    with pytest.raises(error) as caught:
        load(path)

    assert str(caught.value).replace(str(path), "").startswith(FAULTS[kind][name]), str(caught.value)


def test_every_named_fault_has_its_file() -> None:
    """No expectation is left without a fixture, nor a fixture without an expectation."""
    for kind, faults in FAULTS.items():
        assert sorted(faults) == sorted(path.stem for path in (FIXTURES / kind).glob("*.yml"))
