"""Texts of other people in alerts: each receiver takes the message whatever they are, and nobody is fooled by them."""

from __future__ import annotations

import json
import re
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.schemas.texts import legible
from funnelwatch.sinks.alerts.delivery import Outcome
from funnelwatch.sinks.alerts.pagerduty import PagerDuty
from funnelwatch.sinks.alerts.routes import parse_routes
from funnelwatch.sinks.alerts.slack import message
from funnelwatch.sinks.alerts.texts import details, headline, summary
from tests.alerts import alert
from tests.receivers import pagerduty, receiving, slack
from tests.slow_servers import mail_script, serving

if TYPE_CHECKING:
    from funnelwatch.sinks.alerts.receiver import Receiver

KEY = "0123456789abcdef0123456789ABCDEF"

HEADERS = {
    "Subject", "From", "To", "Date", "Message-ID", "In-Reply-To", "References", "Auto-Submitted",
    "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
}  # fmt: skip

NASTY = {
    "line feed": "iOS\nBcc: victim@example.com\n\nnothing is wrong",
    "carriage return": "iOS\rBcc: victim@example.com",
    "both": "iOS\r\nBcc: victim@example.com\r\n.\r\nQUIT\r\n",
    "line breaks of Unicode": "iOS\u2028Bcc: a@b\u2029\x85\x0b\x0c\x1c\x1d\x1e",
    "terminal": "\x1b[2J\x1b[31mred\x9b31m\x07\x08\x7f",
    "direction of writing": "safe\u202egnp.exe\u2066\u200f\u061c",
    "not seen": "zero\u200bwidth\ufeff\xad\U000e0041",
    "half a surrogate pair": "a\ud800b\udfff",
    "tab and NUL": "a\tb\0c",
    "mentions": "<!channel> <!here> @channel @here @everyone <@U123> <#C123>",
    "marks of Slack": "*bold* _it_ ~no~ `code` <http://evil.example|click> &lt;!here&gt; :fire:",
    "markup": "[red]x[/red] {{ step }} %s <b>x</b>",
    "very long": "x" * 100_000,
    "very long, no ASCII": "ё" * 100_000,
    "blank": " \t ",
}


@pytest.mark.parametrize(
    ("basis", "name"), [("window", "impressions"), ("cohort", "impressions"), ("session", "sessions")]
)
def test_an_alert_names_what_its_rate_is_a_share_of(basis: str, name: str) -> None:
    """People read that 205 of 500 sessions succeeded, and not that pages were loaded 500 times."""
    found = details(alert(basis=basis))

    assert {one: found.get(one) for one in ("impressions", "sessions")} == {
        "impressions": None, "sessions": None, name: "500",
    }  # fmt: skip


def nasty(text: str) -> dict[str, Any]:
    """An alert that has the text wherever one can be."""
    named = ["summary", "look_first", "dashboard", text]
    return alert(
        funnel=text, step=text, steps=[text, text], rule=text, reason=text, dimensions={"os": text, text: text},
        labels={text: text, "team": text}, annotations=dict.fromkeys(named, text),
        where_dimension="os", where_value=text,
    )  # fmt: skip


def route(**written: Any) -> Receiver:
    """One route."""
    [found] = parse_routes(json.dumps({"routes": [{"name": "r", **written}]}), "f", {})
    return found


@pytest.mark.parametrize("name", NASTY)
def test_a_mail_is_delivered_and_has_no_header_of_other_people(name: str) -> None:
    """The server takes it at the first attempt; its subject is one line that can be read."""
    people = ["a@example.com", "b@example.com"]
    with serving(mail_script(0.0)) as server:
        mail = route(kind="email", host=HOST, port=server.port, tls="none", **{"from": "f@example.com"}, to=people)
        assert mail.deliver(nasty(NASTY[name]), None, 0).outcome is Outcome.SENT
        assert mail.deliver({**nasty(NASTY[name]), "state": "resolved", "alert_id": NASTY[name]}, None, 0).outcome is (
            Outcome.SENT
        )
    for raw in server.requests:
        got = message_from_bytes(raw.removesuffix(b"\r\n.\r\n"), policy=policy.default)
        assert set(got.keys()) == HEADERS
        assert got["To"] == ", ".join(people)
        assert str(got["Subject"]).isprintable()
        assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
        body = got.get_content().replace("\r\n", "\n")
        assert all(line.isprintable() for line in body.split("\n"))
        assert len(body) < 20_000


@pytest.mark.parametrize("name", NASTY)
def test_slack_takes_the_message_and_notifies_nobody_by_it(name: str) -> None:
    """No mention, no link, no format and no emoji comes from an event or a rule."""
    got = message(nasty(NASTY[name]))
    body = json.dumps(got)
    assert slack({}, body.encode()) == (200, "ok")
    assert not re.search(r"<[!@#]|@(channel|here|everyone)", body)
    texts = [block.get("text") for block in got["blocks"]] + [
        field for block in got["blocks"] for field in block.get("fields", [])
    ]
    marked = [text for text in texts if text and text["type"] == "mrkdwn"]
    assert all(re.fullmatch(r"<[^<>|\n]*\|Dashboard>", text["text"]) for text in marked)
    assert all(text["emoji"] is False for text in texts if text and text["type"] == "plain_text")
    assert got["mrkdwn"] is False


@pytest.mark.parametrize("name", NASTY)
def test_pagerduty_takes_the_event(name: str) -> None:
    """Within its limits, and as valid JSON."""
    event = PagerDuty(name="p", kind="pagerduty", routing_key=KEY).event(nasty(NASTY[name]))
    body = json.dumps(event).encode()
    assert (pagerduty({}, body)[0], len(body) < 512 * 1024) == (202, True)
    assert event["payload"]["summary"].isprintable()
    assert all(len(event["payload"][field]) <= 255 for field in ("source", "component", "group", "class"))


@pytest.mark.parametrize("name", NASTY)
@pytest.mark.parametrize("kind", ["webhook", "alertmanager", "slack"])
def test_what_is_sent_over_http_goes_through(kind: str, name: str) -> None:
    """Headers and bodies are what HTTP and JSON carry, also where the id of an alert is odd."""
    text = NASTY[name]
    with receiving(lambda *_: (200, "")) as server:
        for odd in (nasty(text), {**nasty(text), "alert_id": text[:500]}):
            assert route(kind=kind, url=server.url).deliver(odd, None, 0).outcome is Outcome.SENT
    assert len(server.got) == 2
    if kind == "alertmanager":
        [[first], _] = (one.json for one in server.got)
        assert all(re.fullmatch("[a-zA-Z_][a-zA-Z0-9_]*", label) for label in first["labels"])
        assert all(len(value) <= 1_000 and value.isprintable() for value in first["labels"].values())


@pytest.mark.parametrize("name", NASTY)
def test_a_headline_is_one_line_of_moderate_length(name: str) -> None:
    """It is a subject, a line of the log, and a line on a terminal."""
    assert headline(nasty(NASTY[name])).isprintable()
    assert len(headline(nasty(NASTY[name]))) < 2_500
    assert all(line.isprintable() for line in summary(nasty(NASTY[name])).split("\n"))


def test_a_character_that_nobody_sees_is_shown_as_an_escape() -> None:
    """Nothing is dropped in silence: who reads it finds the odd value in the data."""
    assert legible("a\n\x1b\u202e\ud800é") == "a\\n\\x1b\\u202e\\ud800é"
    assert legible("x" * 300, 10) == "xxxxxxxxx…"


def test_an_annotation_keeps_the_lines_that_its_author_gave_it() -> None:
    """A rule's text may have paragraphs; other control characters are shown."""
    assert summary(alert(annotations={"summary": "one\r\ntwo\x1b"})) == "one\ntwo\\x1b"


FINAL = {
    Outcome.REJECTED: (400, 406, 409, 411, 413, 414, 415, 422, 431),
    Outcome.LATER: (301, 401, 402, 403, 404, 405, 407, 408, 410, 423, 424, 425, 426, 429, 500, 502, 503, 504),
}


@pytest.mark.parametrize("outcome", FINAL)
def test_a_status_blames_the_message_or_the_route(outcome: Outcome) -> None:
    """What blames the message is final; a wrong address, key or moment is mended, and the alert is still wanted."""
    with receiving(lambda *_: (200, "")) as server:
        server.instead = [(status, {"Retry-After": "\xb2"}, "") for status in FINAL[outcome]]
        got = [route(kind="webhook", url=server.url).deliver(alert(), None, 0) for _ in FINAL[outcome]]
    assert [(one.outcome, one.retry_after_s) for one in got] == [(outcome, None)] * len(got)


def test_a_mail_server_that_rejects_for_good_is_not_asked_again() -> None:
    """Reply codes from 500 on are final, those from 400 on are not; the text is short however long the reply is."""
    for code, expected in ((554, Outcome.REJECTED), (451, Outcome.LATER)):

        def script(slow: Any, visit: Any, code: int = code) -> None:
            lines = visit.connection.makefile("rb")
            visit.connection.sendall(b"220 hello\r\n")
            while line := lines.readline():
                rejected = b"%d-%s\r\n" % (code, b"x" * 900) * 100 + b"%d no\r\n" % code
                visit.connection.sendall(rejected if line.upper().startswith(b"RCPT") else b"250 ok\r\n")

        with serving(script) as server:
            mail = route(
                kind="email", host=HOST, port=server.port, tls="none", **{"from": "f@example.com"}, to="a@example.com"
            )
            answer = mail.deliver(alert(), None, 0)
        assert (answer.outcome, len(answer.text) < 400) == (expected, True)
