"""Files of funnels, mappings, bridges and keys: each bad one, and each value without effect, is rejected."""

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
MESSAGES = {
    "funnels": {
        "dimension-capital": ":4: funnels.a.dimensions[1]: Country: is not the name of a dimension; right would be up ",
        "dimension-field": ":4: funnels.a.dimensions[1]: step: is a field of an event, not a dimension; right would be",
        "dimension-number": ":4: funnels.a.dimensions[0]: is a number, not a text; right would be a name such as count",
        "dimension-twice": ":4: funnels.a.dimensions: os is repeated; right would be a list of up to 20 diff",
        "dimensions-a-text": ":4: funnels.a.dimensions: is a text, not a list; right would be a list of up to 20 diff",
        "document-a-list": ":1: file: is a list, not a map; right would be a map with funnels, undeclared, undeclared_",
        "documents-two": ":2: YAML: but found another document; right would be well-formed YAML with each key once",
        "field-misspelt": ":3: funnels.a.stepps: is not a known field; right would be steps",
        "funnel-twice": ':3: YAML: found duplicate key "a"; right would be well-formed YAML with each key once',
        "funnels-a-list": ":1: funnels: is a list, not a map; right would be a map of names to steps such as {sign_up:",
        "funnels-empty": ":1: funnels: is empty; right would be a map of names to steps such as {sign_up: [STEP, STEP]",
        "max-series-zero": ":4: funnels.a.max_series: must be at least 1, not 0; right would be a whole number from 1,",
        "name-empty": ":2: funnels['']: is empty; right would be a name such as sign_up",
        "name-number": ":2: funnels.5: the name is not a text; right would be a name, in quotes",
        "name-star": ":2: funnels.*: * means every funnel; right would be a name such as sign_up",
        "name-too-long": ":2: funnels['xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "name-true": ":2: funnels.True: the name is not a text; right would be a name, in quotes",
        "name-with-space": ":2: funnels['a ']: 'a ' begins or ends with a space, and would match nothing; right would ",
        "session-window-a-number": ":4: funnels.a.session_window: 60 is not a span of time; right would be a span up t",
        "session-window-too-long": ":4: funnels.a.session_window: 25h is not above 0 and at most 24h; right would be a",
        "session-window-zero": ":4: funnels.a.session_window: 0s is not above 0 and at most 24h; right would be a span",
        "step-all": ":2: funnels.a[1]: all means every step; right would be a name such as VERIFY_SMS_CODE, in quotes ",
        "step-control-character": ":2: funnels.a[1]: 'B\\nC' has a line break or another invisible character; right wo",
        "step-empty": ":2: funnels.a[1]: is empty; right would be a name such as VERIFY_SMS_CODE, in quotes if numeric",
        "step-null": ":4: funnels.a[1]: is empty, not a text; right would be a name such as VERIFY_SMS_CODE, in quotes",
        "step-number": ":4: funnels.a[1]: is a number, not a text; right would be a name such as VERIFY_SMS_CODE, in q",
        "step-twice": ":2: funnels.a: A is repeated; right would be a list of different names, in order, such as [STEP",
        "step-with-space": ":2: funnels.a[1]: 'B ' begins or ends with a space, and would match nothing; right would b",
        "steps-a-text": ":2: funnels.a: is a text, neither a list nor a map; right would be a list of different names,",
        "steps-empty": ":2: funnels.a: is empty; right would be a list of different names, in order, such as [STEP, ST",
        "steps-missing": ":2: funnels.a.steps: is missing; right would be a list of different names, in order, such as",
        "steps-nested": ":4: funnels.a[1]: is a list, not a text; right would be a name such as VERIFY_SMS_CODE, in qu",
        "steps-null": ":2: funnels.a: is empty, neither a list nor a map; right would be a list of different names, in",
        "steps-of-a-map-twice": ":3: funnels.a.steps: A is repeated; right would be a list of different names, in orde",
        "timezone-unknown": ":4: funnels.a.timezone: 'europe/berlin' is not a time zone; right would be Europe/Berlin",
        "top-level-misspelt": ":1: funnel: is not a known field; right would be funnels",
        "top-level-unknown": ":2: undeclard: is not a known field; right would be undeclared",
        "undeclared-funnels-negative": ":2: undeclared_funnels: must be at least 0, not -1; right would be a whole num",
        "undeclared-funnels-without-effect": ":3: undeclared_funnels: has no effect beside undeclared: reject; right w",
        "undeclared-unknown": ":2: undeclared: must be 'accept' or 'reject', not 'drop'; right would be accept or reje",
        "values-a-text": ":4: funnels.a.values: must be a whole number, not 'many'; right would be a whole number from",
        "values-of-no-dimension": ":4: funnels.a.values.country: is not a dimension of the funnel; right would be one ",
        "values-zero": ":5: funnels.a.values.os: must be at least 1, not 0; right would be a whole number from 1, or a",
    },
    "row_mappings": {
        "column-empty": ":8: os.column: is empty; right would be the name of a column",
        "column-number": ":8: os: is a number, not a map; right would be the name of a column, {column: NAME} or {va",
        "contexts-a-list": ":8: contexts: is a list, not a map; right would be a map such as {country: COLUMN}",
        "default-beside-value": ":8: os.default: has no effect beside value; right would be {column: NAME, default: ",
        "event-made-twice": ":6: events.shown: has the same event of form twice; right would be each once",
        "event-name-empty": ":6: events['']: is empty; right would be a map such as {form_shown: [{step: form, phase",
        "event-unknown-field": ":7: events.shown[0].stepp: is not a known field; right would be step",
        "events-a-list": ":5: events: is a list, not a map; right would be a map such as {form_shown: [{step: form, ",
        "funnel-empty": ":1: funnel: is empty; right would be the name of a funnel, such as sign_up",
        "funnel-number": ":1: funnel: is a number, not a text; right would be the name of a funnel, such as sign_up",
        "funnel-with-space": ":1: funnel: 'shop ' begins or ends with a space, and would match nothing; right would ",
        "key-twice": ':8: YAML: found duplicate key "event"; right would be well-formed YAML with each key once',
        "made-a-map": ":6: events.shown: is a map, not a list; right would be a map such as {form_shown: [{step: for",
        "once-per-session-number": ":8: once_per_session: is a number, not true or false; right would be true or fal",
        "once-per-session-text": ":8: once_per_session: is a text, not true or false; right would be true or false",
        "other-events-unknown": ":8: other_events: must be 'reject' or 'ignore', not 'drop'; right would be reject o",
        "remember-sessions-fraction": ":8: remember_sessions: must be a whole number, not 10.5; right would be a who",
        "remember-sessions-infinite": ":8: remember_sessions: must be a whole number, not inf; right would be a whol",
        "remember-sessions-true": ":8: remember_sessions: must be a whole number, not True; right would be a whole n",
        "remember-sessions-zero": ":8: remember_sessions: must be at least 1, not 0; right would be a whole number f",
        "step-number": ":7: events.shown[0].step: is a number, not a text; right would be the name of a step",
        "step-too-long": ":7: events.shown[0].step: has 101 characters; an event with more than 100 is rejected; rig",
        "step-with-space": ":7: events.shown[0].step: 'form ' begins or ends with a space, and would match nothing; ",
        "top-level-unknown": ":8: version: is not a known field; right would be app_version",
        "ts-a-list": ":3: ts: is a list, not a map; right would be a column, or {column: at, format: ms}",
        "ts-unknown-field": ":3: ts.fromat: is not a known field; right would be format",
        "value-number": ":8: app_version.value: is a number, not a text; right would be a text, in quotes where YAML",
        "values-beside-value": ":8: os.values: has no effect beside value; right would be {column: NAME, values: …}",
        "values-number": ":8: os.values.ios: is a number, not a text; right would be a map of texts to texts, such a",
    },
    "bridge": {
        "braces-open": ":6: targets[0].maps[0].event.step: '{step' has braces that are not a label; right would be l",
        "context-in-capitals": ":6: targets[0].maps[0].event.contexts.Country: must match ^[a-z][a-z0-9_]{0,62}$; ",
        "counter-no-name": ":6: targets[0].maps[0].counter.name: 'sms-sent' is not the name of a counter; right woul",
        "dimension-empty": ":6: targets[0].maps[0].counter.dimensions.os: is empty; right would be a map of names to",
        "dimension-no-name": ":6: targets[0].maps[0].counter.dimensions.o-s: must match ^[A-Za-z_][A-Za-z0-9_]*$; ri",
        "event-unknown-field": ":6: targets[0].maps[0].event.device: is not a known field; right would be one of pha",
        "every-infinite": ":7: targets[0].every: inf is not a span of time; right would be a span such as 5s, up to ",
        "every-number": ":7: targets[0].every: 5 is not a span of time; right would be a span such as 5s, up to 1d",
        "every-too-long": ":7: targets[0].every: must be at most 86,400; right would be a span such as 5s, up to 1d",
        "every-true": ":7: targets[0].every: True is not a span of time; right would be a span such as 5s, up to 1d",
        "every-zero": ":7: targets[0].every: must be above 0; right would be a span such as 5s, up to 1d",
        "key-twice": ':7: YAML: found duplicate key "metric"; right would be well-formed YAML with each key once',
        "map-unknown-field": ":7: targets[0].maps[0].were: is not a known field; right would be where",
        "maps-empty": ":4: targets[0].maps: is empty; right would be a list such as [{metric: shown_total, event: {p",
        "metric-empty": ":5: targets[0].maps[0].metric: must match ^[A-Za-z_:][A-Za-z0-9_:]*$; right would be a metr",
        "metric-no-name": ":5: targets[0].maps[0].metric: must match ^[A-Za-z_:][A-Za-z0-9_:]*$; right would be a me",
        "name-with-space": ":2: targets[0].name: must match ^[A-Za-z0-9][A-Za-z0-9._-]*$; right would be a name of l",
        "phase-unknown": ":6: targets[0].maps[0].event.phase: must be 'IMPRESSION' or 'POST_VERIFICATION'; right wou",
        "step-empty": ":6: targets[0].maps[0].event.step: is empty; right would be a step such as '{step}'",
        "step-number": ":6: targets[0].maps[0].event.step: is a number, not a text; right would be a step such as '{",
        "step-with-space": ":6: targets[0].maps[0].event.step: 'A ' begins or ends with a space, and would match not",
        "target-unknown-field": ":7: targets[0].interval: is not a known field; right would be one of name, url, eve",
        "top-level-unknown": ":7: every: is not a known field; right would be targets",
        "where-number": ":7: targets[0].maps[0].where.code: is a number, not a text; right would be a map of labels ",
    },
    "lines": {
        "contexts-of-a-counter": ":4: lines[0].contexts: has no effect without event; right would be dimensions of",
        "counter-braces-open": ":3: lines[0].counter.name: '{measurement' has braces that are not a placeholder; rig",
        "counter-name-empty": ":3: lines[0].counter.name: is empty; right would be a name such as '{measurement}_tot",
        "counter-with-unit": ":3: lines[0].counter.unit: has no effect on a counter; right would be no unit, or a ti",
        "dimension-twice": ":3: lines[0].counter.dimensions: os is repeated; right would be a list of tags such as [",
        "dimensions-a-text": ":3: lines[0].counter.dimensions: is a text, not a list; right would be a list of tags ",
        "dimensions-and-leave-out": ":3: lines[0].counter.leave_out: has no effect beside dimensions; right would be",
        "entry-never-reached": ":4: lines[1]: is never reached: lines[0] takes every line of it; right would be to p",
        "entry-twice": ":4: lines[1]: is never reached: lines[0] takes every line of it; right would be to put it be",
        "entry-unknown-field": ":4: lines[0].wehre: is not a known field; right would be where",
        "event-a-text": ":3: lines[0].event: is a text, not a map; right would be a map such as {step: page, os: {va",
        "ignore-false": ":2: lines[0]: must have one of event, counter, timer, 'ignore: true'; right would be a list",
        "ignore-number": ":3: lines[0].ignore: is a number, not true or false; right would be true or false",
        "key-twice": ':4: YAML: found duplicate key "event"; right would be well-formed YAML with each key once',
        "lines-empty": ":1: lines: is empty; right would be a list such as [{measurement: NAME, event: {}}], with wh",
        "lines-missing": ":1: lines: is missing; right would be a list such as [{measurement: NAME, event: {}}], wit",
        "measurement-empty": ":2: lines[0].measurement: is empty; right would be a name, in which * stands for any l",
        "others-unknown": ":1: others: must be 'reject' or 'ignore', not 'drop'; right would be reject or ignore",
        "timer-unit-unknown": ":3: lines[0].timer.unit: must be 'ns', 'us', 'ms' or 's', not 'm'; right would be ns,",
        "timer-unknown-field": ":3: lines[0].timer.units: is not a known field; right would be unit",
        "top-level-unknown": ":4: fallback: is not a known field; right would be one of others, lines",
        "values-beside-value": ":3: lines[0].event.os.values: has no effect beside value; right would be {from: page",
        "where-number": ":4: lines[0].where.code: is a number, not a text; right would be a map of tags to texts, su",
    },
    "keys": {
        "field-unknown": ":4: keys[0].used: is not a known field; right would be use",
        "hash-number": ":3: keys[0].sha256: is a number, not a text; right would be 64 hex digits",
        "hash-too-short": ":3: keys[0].sha256: is not 64 hex digits; right would be what 'funnelwatch collector-key'",
        "key-twice": ':4: YAML: found duplicate key "name"; right would be well-formed YAML with each key once',
        "name-number": ":2: keys[0].name: is a number, not a text; right would be a name of its own, such as web",
        "name-with-space": ":2: keys[0].name: 'web ' begins or ends with a space, or has an invisible character; rig",
        "origin-in-capitals": ":4: keys[0].origins[0]: 'https://App.example' is not an origin that a browser sends; ",
        "origin-number": ":4: keys[0].origins[0]: is a number, not a text; right would be a list such as ['https://a",
        "origin-star": ":4: keys[0].origins[0]: '*' is not an origin that a browser sends; right would be a list suc",
        "origin-with-path": ":4: keys[0].origins[0]: 'https://app.example/shop' is not an origin that a browser send",
        "origin-without-scheme": ":4: keys[0].origins[0]: 'app.example' is not an origin that a browser sends; right",
        "origins-empty": ":4: keys[0].origins: is empty, which is not the same as leaving it out; right would be a l",
        "same-hash": "the API keys web and app are the same key; right would be one name for it",
        "top-level-unknown": ":4: default: is not a known field; right would be keys",
        "use-a-text": ":4: keys[0].use: is a text, not a list; right would be events, lines, or both, in a list such",
        "use-empty": ":4: keys[0].use: is empty; right would be events, lines, or both, in a list such as [events]",
        "use-nested": ":4: keys[0].use[0]: must be 'events' or 'lines', not a list; right would be events, lines, or",
        "use-twice": ":4: keys[0].use: events is repeated; right would be events, lines, or both, in a list such as ",
    },
}
"""By folder and fixture: the message behind the file's name."""


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, messages in MESSAGES.items() for name in messages])
def test_a_bad_file_is_rejected_with_place_error_and_remedy(kind: str, name: str) -> None:
    """The message names the place, and the text to write there."""
    load, error = LOADERS[kind]
    path = FIXTURES / kind / f"{name}.yml"
    with pytest.raises(error) as caught:
        load(path)

    assert str(caught.value).replace(str(path), "").startswith(MESSAGES[kind][name]), str(caught.value)


def test_every_message_has_its_fixture() -> None:
    """No expectation is left without a fixture, nor a fixture without an expectation."""
    for kind, messages in MESSAGES.items():
        assert sorted(messages) == sorted(path.stem for path in (FIXTURES / kind).glob("*.yml"))
