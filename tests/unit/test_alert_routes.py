"""Routes of alerts: files that cannot be used, which alerts a route tells, pauses, and the formats that are sent."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from funnelwatch.alert_rules.watchdog import heartbeat
from funnelwatch.schemas.redaction import revealed
from funnelwatch.sinks.alerts.alertmanager import Alertmanager
from funnelwatch.sinks.alerts.delivery import Outcome, retry_after
from funnelwatch.sinks.alerts.matching import Verdict, verdict
from funnelwatch.sinks.alerts.pagerduty import PagerDuty
from funnelwatch.sinks.alerts.receiver import When
from funnelwatch.sinks.alerts.routes import KINDS, RoutesFileError, load_routes, parse_routes
from funnelwatch.sinks.alerts.slack import message
from funnelwatch.sinks.alerts.texts import headline
from funnelwatch.sinks.alerts.webhook import Webhook, signature
from tests.alerts import alert
from tests.receivers import pagerduty, receiving, slack

KEY = "0123456789abcdef0123456789ABCDEF"

ERRORS = {
    "no routes": ("routes: []", "f.yml:1: routes: is empty; right would be a list such as"),
    "not YAML": ("routes: [", "f.yml:1: YAML: "),
    "unknown kind": (
        "routes:\n  - {name: a, kind: pager}",
        "f.yml:2: routes[0].kind: 'pager' is not a kind of route; right would be one of alertmanager, pagerduty, email",
    ),
    "no name": (
        "routes:\n  - kind: slack\n    url: https://x",
        "f.yml:2: routes[0].name: is missing; right would be a name of its own, such as on-call",
    ),
    "typing error": (
        "routes:\n  - name: a\n    kind: slack\n    url: https://x\n    whem: {}",
        "f.yml:5: routes[0].whem: is not a known field; right would be when",
    ),
    "typing error in a filter": (
        "routes:\n  - name: a\n    kind: slack\n    url: https://x\n    when:\n      severty: critical",
        "f.yml:6: routes[0].when.severty: is not a known field; right would be severity",
    ),
    "unknown dimension": (
        "routes:\n  - {name: a, kind: slack, url: https://x, when: {dimensions: {step: x}}}",
        "f.yml:2: routes[0].when.dimensions.step: step: is a field of an event, not a dimension",
    ),
    "no address": (
        "routes:\n  - {name: a, kind: webhook, url: ftp://x}",
        "f.yml:2: routes[0].url: is not a web address; right would be an address such as https://host/path",
    ),
    "no such variable": (
        "routes:\n  - {name: a, kind: pagerduty, routing_key: '${NOT_SET}'}",
        "f.yml:2: routes[0].routing_key: the environment has no NOT_SET; right would be to set NOT_SET",
    ),
    "no such file": (
        "routes:\n  - {name: a, kind: pagerduty, routing_key: '${file:/no/such}'}",
        "f.yml:2: routes[0].routing_key: /no/such cannot be read: No such file or directory; right would be a file",
    ),
    "same name": (
        "routes:\n  - {name: a, kind: slack, url: https://x}\n  - {name: a, kind: slack, url: https://y}",
        "f.yml:3: routes[1].name: a appears twice; right would be a name of its own",
    ),
    "reminders too rare": (
        "routes:\n  - name: a\n    kind: alertmanager\n    url: http://x\n    resend: 3m\n    valid_for: 5m",
        "f.yml:6: routes[0].valid_for: is less than twice resend",
    ),
    "password in the clear": (
        "routes:\n  - {name: a, kind: email, host: h, from: a@b, to: c@d, username: u, password: p, tls: none}",
        "f.yml:2: routes[0].tls: is none, and the password would be sent in the clear; right would be starttls, tls",
    ),
    "no mailbox": (
        "routes:\n  - {name: a, kind: email, host: h, from: a@b, to: [c@d, e]}",
        "f.yml:2: routes[0].to[1]: is no address of a mailbox",
    ),
    "no span": (
        "routes:\n  - {name: a, kind: slack, url: https://x, timeout: soon}",
        "f.yml:2: routes[0].timeout: 'soon' is not a span of time",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_names_file_route_field_and_what_would_be_right(case: str) -> None:
    """The person who wrote the file can mend it without a manual."""
    text, expected = ERRORS[case]
    with pytest.raises(RoutesFileError) as error:
        parse_routes(text, "f.yml", {})
    assert str(error.value).startswith(expected)


def test_an_error_does_not_show_a_secret() -> None:
    """A value may be a secret; what is said about it does not repeat it."""
    with pytest.raises(RoutesFileError) as error:
        parse_routes("routes: [{name: a, kind: pagerduty, routing_key: [hunter2]}]", "f.yml", {})
    assert "hunter2" not in str(error.value)


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path) -> None:
    """A file may hold a line break behind the secret; it is no part of it."""
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "f.yml").write_text(
        f"routes:\n- {{name: a, kind: pagerduty, routing_key: '${{file:{tmp_path}/key}}'}}\n"
        "- {name: b, kind: webhook, url: 'https://${HOST}/x', secret: '${ SECRET }'}\n"
    )
    first, second = load_routes(tmp_path / "f.yml", {"HOST": "h", "SECRET": "s"})
    assert isinstance(first, PagerDuty)
    assert revealed(first.routing_key) == KEY
    assert isinstance(second, Webhook)
    assert (revealed(second.url), revealed(second.secret)) == ("https://h/x", "s")


PAGE = (Path(__file__).parents[2] / "docs" / "notify.md").read_text()


def block(language: str) -> str:
    """The one block of that language on the page about notifying."""
    [found] = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def test_the_routes_on_the_page_can_be_used() -> None:
    """Whoever copies them has a file of every kind that works."""
    secrets = dict.fromkeys(("PAGERDUTY_KEY", "SMTP_PASSWORD", "WEBHOOK_SECRET"), "s") | {"SLACK_URL": "https://x"}
    assert {route.model_dump()["kind"] for route in parse_routes(block("yaml"), "page", secrets)} == set(KINDS)


def test_the_check_of_a_signature_on_the_page_tells_genuine_from_false() -> None:
    """As a receiver would run it: another body, another secret and an old message are rejected."""
    names: dict[str, Any] = {}
    exec(block("python"), names)
    is_genuine, now = names["is_genuine"], int(time.time())
    assert is_genuine("s3", signature("s3", now, b"body"), b"body")
    assert not is_genuine("s3", signature("s3", now, b"body"), b"another")
    assert not is_genuine("s4", signature("s3", now, b"body"), b"body")
    assert not is_genuine("s3", signature("s3", now - 600, b"body"), b"body")


VERDICTS: dict[str, tuple[dict[str, Any], dict[str, Any], Verdict]] = {
    "everything": ({}, {}, Verdict.NOTIFY),
    "severity": ({"severity": "critical"}, {"severity": "warning"}, Verdict.FILTERED),
    "one of several": ({"severity": ["critical", "warning"]}, {"severity": "warning"}, Verdict.NOTIFY),
    "rule": ({"rule": "Other"}, {}, Verdict.FILTERED),
    "funnel": ({"funnel": "sign_up"}, {}, Verdict.NOTIFY),
    "step among several": ({"step": "B"}, {"step": "A", "steps": ["A", "B"]}, Verdict.NOTIFY),
    "another step": ({"step": "C"}, {"step": "A", "steps": ["A", "B"]}, Verdict.FILTERED),
    "dimension": ({"dimensions": {"os": "iOS"}}, {}, Verdict.NOTIFY),
    "another dimension": ({"dimensions": {"os": "Android"}}, {}, Verdict.FILTERED),
    "dimension that it is not about": ({"dimensions": {"browser": "Chrome"}}, {}, Verdict.FILTERED),
    "state": ({"state": "firing"}, {"state": "resolved"}, Verdict.FILTERED),
    "silenced": ({}, {"silenced_by": "3"}, Verdict.SILENCED),
    "resolved is never silenced": ({}, {"state": "resolved", "silenced_by": "3"}, Verdict.NOTIFY),
    "resolved with another severity": (
        {"severity": "critical"},
        {"state": "resolved", "severity": "warning"},
        Verdict.NOTIFY_IF_NOTIFIED,
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_a_route_tells_what_its_filters_want(case: str) -> None:
    """Each filter by itself, and what is told whatever they say."""
    when, changes, expected = VERDICTS[case]
    assert verdict(When.model_validate(when), alert(**changes)) is expected


def test_the_heartbeat_is_told_to_nobody() -> None:
    """Severity none is no severity that a route could want."""
    assert verdict(When(), heartbeat(0, 60_000, "v")) is Verdict.HEARTBEAT


def test_a_server_asks_for_time_in_seconds_or_by_a_date() -> None:
    """Both forms of Retry-After; what is neither asks for nothing."""
    now = datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert retry_after("17", now.timestamp()) == 17
    assert retry_after(format_datetime(now.replace(minute=1), usegmt=True), now.timestamp()) == 60
    assert retry_after(format_datetime(now.replace(hour=9), usegmt=True), now.timestamp()) == 0
    assert [retry_after(value, 0.0) for value in (None, "soon")] == [None, None]


LONG = alert(
    annotations={"summary": "<!channel> & more " * 2_000, "look_first": "x" * 9_000, "dashboard": "https://g/d?a=1&b=2"}
)


def test_pagerduty_takes_what_is_sent_however_long_it_is() -> None:
    """Trigger, resolve and the severities that PagerDuty does not know, by its published format."""
    route = PagerDuty(name="p", kind="pagerduty", routing_key=KEY, severities={"page": "critical"})
    for one in (LONG, alert(), alert("resolved"), alert(severity="page"), alert(severity="odd", steps=[])):
        assert pagerduty({}, json.dumps(route.event(one)).encode())[0] == 202, route.event(one)
    event = route.event(LONG)
    assert event["client_url"] == "https://g/d?a=1&b=2"
    assert route.event(alert(severity="page"))["payload"]["severity"] == "critical"
    assert route.event(alert(severity="odd"))["payload"]["severity"] == "error"
    assert route.event(alert("resolved")) == {"routing_key": KEY, "dedup_key": "a-1", "event_action": "resolve"}
    assert pagerduty({}, json.dumps(event | {"event_action": "page"}).encode())[0] == 400


def test_slack_takes_what_is_sent_and_sees_no_marks_in_other_peoples_texts() -> None:
    """An annotation cannot notify a channel, and nothing is longer than Slack takes."""
    for one in (LONG, alert(), alert("resolved"), alert(basis="instrumentation", where_dimension="")):
        assert slack({}, json.dumps(message(one)).encode()) == (200, "ok")
    assert "<!channel>" not in json.dumps(message(LONG))
    assert slack({}, json.dumps({"blocks": [{"type": "header", "text": {}}] * 51}).encode())[0] == 400


def test_a_webhook_is_signed_over_time_and_body() -> None:
    """Whoever knows the secret computes the same; the delivery's key is the same however often it is sent."""
    with receiving(lambda *_: (204, "")) as hook:
        [route] = parse_routes(f"routes: [{{name: w, kind: webhook, url: '{hook.url}', secret: s3}}]", "f", {})
        for now_ms in (1_700_000_000_999, 1_700_000_060_000):
            assert route.deliver(alert(), None, now_ms).outcome is Outcome.SENT
    first, second = hook.got
    expected = hmac.new(b"s3", b"1700000000." + first.body, hashlib.sha256).hexdigest()
    assert first.headers["Funnelwatch-Signature"] == f"t=1700000000,v1={expected}"
    assert first.headers["Funnelwatch-Signature"] != second.headers["Funnelwatch-Signature"]
    assert first.headers["Funnelwatch-Delivery"] == second.headers["Funnelwatch-Delivery"] == "a-1/0"
    assert first.json["alert"] == alert()
    assert first.json["headline"] == headline(alert())


ANSWERS = {
    204: Outcome.SENT,
    302: Outcome.LATER,
    400: Outcome.REJECTED,
    401: Outcome.LATER,
    404: Outcome.LATER,
    413: Outcome.REJECTED,
    422: Outcome.REJECTED,
    429: Outcome.LATER,
    500: Outcome.LATER,
    503: Outcome.LATER,
}


def test_only_what_blames_the_message_is_final() -> None:
    """A wrong address or key is mended by a person, and the message is then still wanted."""
    with receiving(lambda *_: (200, "")) as hook:
        [route] = parse_routes(f"routes: [{{name: w, kind: webhook, url: '{hook.url}'}}]", "f", {})
        for status, expected in ANSWERS.items():
            hook.instead = [(status, {"Retry-After": "7", "Location": "/elsewhere"}, "why")]
            answer = route.deliver(alert(), None, 0)
            assert (answer.outcome, answer.text.split()[0]) == (expected, str(status))
            assert answer.retry_after_s == (None if status < 300 else 7)
    assert route.deliver(alert(), None, 0).outcome is Outcome.LATER  # nobody is there any more


def test_what_alertmanager_knew_under_other_labels_is_ended_with_them() -> None:
    """An incident whose leading step changes is another alert to Alertmanager: the old one must not fire on."""
    now = alert()["window_end"] + 5_000
    with receiving(lambda *_: (200, "")) as manager:
        text = f"routes: [{{name: m, kind: alertmanager, url: '{manager.url}', labels: {{team: growth}}}}]"
        [route] = parse_routes(text, "f", {})
        assert isinstance(route, Alertmanager)
        first, moved = alert(labels={"1 odd-name": "x"}), alert(step="INPUT_NAME", sequence=1)
        route.deliver(first, None, now)
        route.deliver(moved, first, now)
        route.deliver(alert("resolved", sequence=2, severity="info"), moved, now)
    (begun,), (said, ended), (over,) = (one.json for one in manager.got)
    assert manager.got[0].path == "/hook/api/v2/alerts"
    assert begun["labels"] == {
        "alertname": "ConversionDrop", "alert_id": "a-1", "severity": "warning", "funnel": "sign_up",
        "step": "VERIFY_SMS_CODE", "os": "iOS", "team": "growth", "_1_odd_name": "x",
    }  # fmt: skip
    assert ended["labels"] == begun["labels"]
    assert ended["endsAt"] < begun["endsAt"]
    assert over["labels"] == said["labels"]
    assert (said["labels"]["step"], over["labels"]["severity"]) == ("INPUT_NAME", "warning")
