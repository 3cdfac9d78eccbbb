"""Files of routes: each bad one is rejected with a helpful message, and so is a value without effect."""

from __future__ import annotations

from pathlib import Path

import pytest

from funnelwatch.sinks.alerts.routes import RoutesFileError, load_routes, parse_routes

FIXTURES = Path(__file__).parents[1] / "fixtures" / "routes"
MESSAGES = {
    "address-twice": "4: routes[0].url: number 2 ",
    "address-with-a-line-break": "2: routes[0].url: has a space, a line break or a character that an address writes ",
    "address-with-a-space": "2: routes[0].url: has a space, a line break or a character that an address writes as %X",
    "address-with-no-port": "2: routes[0].url: has a port that is none; right would be the webhook's address, such a",
    "certificates-without-tls": "8: routes[0].ca_file: does nothing where tls is none; right would be a file of cert",
    "empty-name": "5: routes[0].when.rule: is empty; right would be names of rules",
    "filters-as-a-list": "5: routes[0].when: is a list, not a map; right would be a map of filters such as {severity",
    "header-of-no-name": "5: routes[0].headers: X A is not the name of a header; right would be a map of more header",
    "header-of-our-own": "5: routes[0].headers: content-length is set by funnelwatch itself; right would be a map of",
    "header-that-is-a-number": "5: routes[0].headers.X-A: is a number, not a text; right would be a map of more head",
    "header-with-a-line-break": "5: routes[0].headers: X-A has a line break or another character that a header canno",
    "infinite-span": "5: routes[0].give_up_after: inf is not a span of time; right would be a span such as 24h",
    "key-twice": '6: YAML: found duplicate key "timeout"; right would be well-formed YAML with each key once',
    "key-with-a-line-break": "4: routes[0].routing_key: begins or ends with a space, or has an invisible character; ",
    "kind-a-list": "2: routes[0].kind: ['slack'] is not a kind of route; right would be one of alertmanager, pagerdu",
    "label-empty": "5: routes[0].labels.team: is empty, which is the same as leaving it out; right would be a map of",
    "label-of-no-name": "5: routes[0].labels.team-name: is not a name of letters, digits and underscores; right woul",
    "label-os": "6: routes[0].labels.os: is set by the alert itself, to the os that is evaluated; another name is yo",
    "label-severity": "5: routes[0].labels.severity: is set by the alert itself, to the rule's own severity, which i",
    "mailbox-of-no-domain": "6: routes[0].to: is no address of a mailbox; right would be an address such as on-call@",
    "mailbox-twice": "6: routes[0].to: number 2 ",
    "mailbox-with-line-break": "6: routes[0].to: is no address of a mailbox; right would be an address such as on-ca",
    "name-of-a-route-empty": "2: routes[0].name: may have letters, digits, '.', '_' and '-' only; right would be a n",
    "name-of-a-route-number": "2: routes[0].name: is a number, not a text; right would be a name of its own, such as",
    "name-of-a-route-with-line-break": "2: routes[0].name: may have letters, digits, '.', '_' and '-' only; right wo",
    "name-with-a-space": "5: routes[0].when.step: 'A ' begins or ends with a space, and would match nothing; right w",
    "no-addresses": "4: routes[0].url: is empty, which is not the same as leaving it out; right would be an address ",
    "no-dimensions": "5: routes[0].when.dimensions: is empty, which is not the same as leaving it out; right would b",
    "no-mailboxes": "6: routes[0].to: is empty, which is not the same as leaving it out; right would be an address s",
    "no-such-certificates": "7: routes[0].ca_file: is no file that can be read here; right would be a file of certif",
    "no-values-of-a-dimension": "5: routes[0].when.dimensions.os: is empty, which is not the same as leaving it out;",
    "no-values-of-a-filter": "5: routes[0].when.severity: is empty, which is not the same as leaving it out; right w",
    "null": "5: routes[0].timeout: None is not a span of time; right would be a span such as 10s, at most 20s: for ",
    "number-for-a-name": "5: routes[0].when.funnel: is a number, not a list; right would be names of funnels",
    "number-without-a-unit": "5: routes[0].timeout: 10 is not a span of time; right would be a span such as 10s, at",
    "password-without-user": "2: routes[0].username: is missing; ",
    "port-of-letters": "7: routes[0].port: must be a whole number, not 'smtp'; right would be its port, 1 to 65535",
    "port-too-high": "7: routes[0].port: must be at most 65,535; right would be its port, 1 to 65535",
    "port-true": "7: routes[0].port: must be a whole number, not True; right would be its port, 1 to 65535",
    "route-a-text": "2: routes[0]: is a text, not a map; right would be a list such as [{name: on-call, kind: pagerd",
    "secret-empty": "5: routes[0].secret: is empty, which is not the same as leaving it out; right would be what bot",
    "secret-empty-in-the-environment": "5: routes[0].secret: EMPTY is empty in the environment; right would be to se",
    "severity-of-nobody": "5: routes[0].severities.page: is not a severity of a rule; right would be one of info, wa",
    "severity-that-pagerduty-has-not": "5: routes[0].severities.critical: must be 'critical', 'error', 'warning' or ",
    "span-of-nothing": "5: routes[0].timeout: must be above 0; right would be a span such as 10s, at most 20s: for a",
    "span-that-is-no-span": "5: routes[0].give_up_after: 'inf' is not a span of time; right would be a span such as",
    "span-that-is-too-long": "5: routes[0].timeout: must be at most 20; right would be a span such as 10s, at most 2",
    "truth-value-for-a-span": "5: routes[0].timeout: True is not a span of time; right would be a span such as 10s,",
    "unknown-severity": "5: routes[0].when.severity: must be 'info', 'warning' or 'critical'; right would be critica",
    "unknown-state": "5: routes[0].when.state: must be 'firing' or 'resolved'; right would be firing, resolved, or b",
    "unknown-top-level-key": "5: defaults: is not a known field; right would be routes",
    "user-without-password": "2: routes[0].password: is missing; ",
    "value-twice": "5: routes[0].when.severity: number 2 ",
}


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.yml")), ids=lambda path: path.stem)
def test_a_bad_file_of_routes_is_rejected_with_line_field_error_and_remedy(path: Path) -> None:
    """A filter that matches nothing is found before the first alert."""
    with pytest.raises(RoutesFileError) as caught:
        load_routes(path, {"EMPTY": ""})

    assert str(caught.value).startswith(f"{path}:{MESSAGES[path.stem]}"), str(caught.value)
    assert "right would be" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_named_error_has_its_file() -> None:
    """No expectation is left without a fixture."""
    assert sorted(MESSAGES) == sorted(path.stem for path in FIXTURES.glob("*.yml"))


def test_a_port_may_come_from_the_environment() -> None:
    """A variable is always a text."""
    text = "routes: [{name: a, kind: email, host: h, port: '${PORT}', from: a@b, to: c@d}]"
    [route] = parse_routes(text, "f.yml", {"PORT": "2525"})
    assert route.model_dump()["port"] == 2525


def test_an_address_that_stands_twice_is_not_repeated_in_the_message() -> None:
    """It may have a password in it."""
    text = "routes: [{name: a, kind: alertmanager, url: ['https://u:hunter2@h', 'https://u:hunter2@h']}]"
    with pytest.raises(RoutesFileError) as caught:
        parse_routes(text, "f.yml", {})
    assert "hunter2" not in str(caught.value)
