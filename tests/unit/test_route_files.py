"""Files of routes: each bad one is rejected in words that help, also what would be accepted and do nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from funnelwatch.sinks.alerts.routes import RoutesFileError, load_routes, parse_routes

FIXTURES = Path(__file__).parents[1] / "fixtures" / "routes"
FAULTS = {
    "address-twice": "4: route a: url: number 2 is repeated; right would be an address such as http://alertma",
    "address-with-a-line-break": "2: route a: url: has a space, a line break or a character that an address writes as",
    "address-with-a-space": "2: route a: url: has a space, a line break or a character that an address writes as %XX;",
    "address-with-no-port": "2: route a: url: has a port that is none; right would be the webhook's address, such as ",
    "certificates-without-tls": "8: route a: ca_file: does nothing where tls is none; right would be a file of certif",
    "empty-name": "5: route a: when.rule[0]: '' is empty; right would be names of rules",
    "filters-as-a-list": "5: route a: when: input should be a map or instance of When; right would be a map of filter",
    "header-of-no-name": "5: route a: headers: X A is not the name of a header; right would be a map of more headers,",
    "header-of-our-own": "5: route a: headers: content-length is set by funnelwatch itself; right would be a map of m",
    "header-that-is-a-number": "5: route a: headers.X-A: input should be a text; right would be a map of more headers",
    "header-with-a-line-break": "5: route a: headers: X-A has a line break or another character that a header cannot ",
    "infinite-span": "5: route a: give_up_after: inf is no span of time; right would be a span such as 24h",
    "key-twice": '6: YAML: found duplicate key "timeout"',
    "key-with-a-line-break": "4: route a: routing_key: begins or ends with a space, or has a character that nobody se",
    "kind-a-list": "2: route a: kind: ['slack'] is not a kind of route; right would be one of alertmanager, pagerduty",
    "label-empty": "5: route a: labels.team: is empty, which is the same as not being there; right would be a map of ",
    "label-of-no-name": "5: route a: labels.team-name: is not a name of letters, digits and underscores; right would ",
    "label-os": "6: route a: labels.os: is set by the alert itself, to the os that is judged; another name is yours; ",
    "label-severity": "5: route a: labels.severity: is set by the alert itself, to the rule's own severity, which sta",
    "mailbox-of-no-domain": "6: route a: to[0]: is no address of a mailbox; right would be an address such as on-call",
    "mailbox-twice": "6: route a: to: number 2 is repeated; right would be an address such as on-call@example",
    "mailbox-with-line-break": "6: route a: to[0]: is no address of a mailbox; right would be an address such as on-c",
    "name-of-a-route-empty": "2: route routes[0]: name: may have letters, digits, '.', '_' and '-' only; right would ",
    "name-of-a-route-number": "2: route routes[0]: name: input should be a text; right would be a name of its own, su",
    "name-of-a-route-with-line-break": "2: route a\\nb: name: may have letters, digits, '.', '_' and '-' only; right ",
    "name-with-a-space": "5: route a: when.step[0]: 'A ' begins or ends with a space, and would match nothing; right ",
    "no-addresses": "4: route a: url: is empty, which is not the same as leaving it out; right would be an address su",
    "no-dimensions": "5: route a: when.dimensions: is empty, which is not the same as leaving it out; right would be ",
    "no-mailboxes": "6: route a: to: is empty, which is not the same as leaving it out; right would be an address suc",
    "no-such-certificates": "7: route a: ca_file: is no file that can be read here; right would be a file of certific",
    "no-values-of-a-dimension": "5: route a: when.dimensions.os: is empty, which is not the same as leaving it out; r",
    "no-values-of-a-filter": "5: route a: when.severity: is empty, which is not the same as leaving it out; right wou",
    "null": "5: route a: timeout: None is no span of time; right would be a span such as 10s, at most 20s: for a whol",
    "number-for-a-name": "5: route a: when.funnel: input should be a list; right would be names of funnels",
    "number-without-a-unit": "5: route a: timeout: 10 is no span of time; right would be a span such as 10s, at most ",
    "password-without-user": "2: route a: username: is missing; each needs the other; right would ",
    "port-of-letters": "7: route a: port: input should be a valid integer, not 'smtp'; right would be its port, 1 to ",
    "port-too-high": "7: route a: port: input should be less than or equal to 65535; right would be its port, 1 to 65",
    "port-true": "7: route a: port: input should be a valid integer, not True; right would be its port, 1 to 65535",
    "route-a-text": "2: route routes[0]: is not a map; right would be a list such as [{name: on-call, kind: pagerduty",
    "secret-empty": "5: route a: secret: is empty, which is not the same as leaving it out; right would be what both ",
    "secret-empty-in-the-environment": "5: route a: secret: EMPTY is empty in the environment; right would be to set ",
    "severity-of-nobody": "5: route a: severities.page: is no severity of a rule; right would be one of info, warning",
    "severity-that-pagerduty-has-not": "5: route a: severities.critical: input should be 'critical', 'error', 'warnin",
    "span-of-nothing": "5: route a: timeout: input should be greater than 0; right would be a span such as 10s, at mo",
    "span-that-is-no-span": "5: route a: give_up_after: 'inf' is no span of time; right would be a span such as 24h",
    "span-that-is-too-long": "5: route a: timeout: input should be less than or equal to 20; right would be a span su",
    "truth-value-for-a-span": "5: route a: timeout: True is no span of time; right would be a span such as 10s, at mo",
    "unknown-severity": "5: route a: when.severity[0]: input should be 'info', 'warning' or 'critical'; right would b",
    "unknown-state": "5: route a: when.state[0]: input should be 'firing' or 'resolved'; right would be firing, resol",
    "unknown-top-level-key": "5: defaults: is not known; right would be routes",
    "user-without-password": "2: route a: password: is missing; each needs the other; right would ",
    "value-twice": "5: route a: when.severity: number 2 is repeated; right would be critical, warning or info",
}


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*.yml")), ids=lambda path: path.stem)
def test_a_bad_file_of_routes_is_rejected_with_line_route_field_fault_and_remedy(path: Path) -> None:
    """Nobody learns at three in the morning that a filter fits nothing."""
    with pytest.raises(RoutesFileError) as caught:
        load_routes(path, {"EMPTY": ""})

    assert str(caught.value).startswith(f"{path}:{FAULTS[path.stem]}"), str(caught.value)
    assert "right would be" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_named_fault_has_its_file() -> None:
    """No expectation is left without a fixture."""
    assert sorted(FAULTS) == sorted(path.stem for path in FIXTURES.glob("*.yml"))


def test_a_port_may_come_from_the_environment() -> None:
    """What a variable gives is a text; a number in the file is one as well."""
    text = "routes: [{name: a, kind: email, host: h, port: '${PORT}', from: a@b, to: c@d}]"
    [route] = parse_routes(text, "f.yml", {"PORT": "2525"})
    assert route.model_dump()["port"] == 2525


def test_an_address_that_stands_twice_is_not_repeated_in_the_message() -> None:
    """It may have a password in it."""
    text = "routes: [{name: a, kind: alertmanager, url: ['https://u:hunter2@h', 'https://u:hunter2@h']}]"
    with pytest.raises(RoutesFileError) as caught:
        parse_routes(text, "f.yml", {})
    assert "hunter2" not in str(caught.value)
