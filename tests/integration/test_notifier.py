"""The notifier: from the topic of alerts to several receivers, through their outages and its own."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from funnelwatch.alert_rules.watchdog import heartbeat
from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.sinks.alerts.notifier import Notifier
from funnelwatch.sinks.alerts.routes import parse_routes
from funnelwatch.sinks.retry import Backoff
from funnelwatch.sinks.timescale.notifications import NotificationQueue
from tests import command
from tests.alerts import alert, publish
from tests.receivers import anything, mail_server, pagerduty, receiving, slack
from tests.stack import wait_until
from tests.traffic import now_ms

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import pytest

    from funnelwatch.schemas.settings import Settings
    from funnelwatch.sinks.timescale.database import Database

KEY = "0123456789abcdef0123456789ABCDEF"
QUICK = Backoff(first_s=0.05, longest_s=0.2)


@contextmanager
def notifying(settings: Settings, routes: Sequence[dict[str, Any]]) -> Iterator[None]:
    """A notifier on a thread of this process."""
    parsed = parse_routes(json.dumps({"routes": list(routes)}), "routes", {})
    notifier = Notifier(settings, parsed, now_ms, QUICK)
    thread = threading.Thread(target=notifier.run)
    thread.start()
    try:
        yield
    finally:
        notifier.stop()
        thread.join()


def hook(url: str, name: str = "hook", **more: Any) -> dict[str, Any]:
    """A route to a webhook."""
    return {"name": name, "kind": "webhook", "url": url, **more}


def said(documents: Sequence[dict[str, Any]]) -> list[tuple[str, int, str]]:
    """Which messages a webhook has got."""
    return [(one["alert"]["alert_id"], one["alert"]["sequence"], one["alert"]["state"]) for one in documents]


def outcomes(connect: Callable[[], Database], route: str) -> list[tuple[str, int, str | None]]:
    """What the log says of a route, by alert."""
    rows = NotificationQueue(connect()).recent(100, route)
    return sorted((row["alert"]["alert_id"], row["alert"]["sequence"], row["outcome"]) for row in rows)


def test_a_message_with_characters_that_the_database_rejects_is_sent_too(
    settings: Settings, connect: Callable[[], Database]
) -> None:
    """Anybody may write to the topic: a NUL, which PostgreSQL does not take, is sent as an escape."""
    connect()
    with receiving(anything) as every, notifying(settings, [hook(every.url)]):
        publish(settings, alert(alert_id="bad", annotations={"summary": "a\0b"}), alert(alert_id="good"))
        wait_until(lambda: len(every.taken) == 2, "both are sent")
        assert sorted(said(every.taken)) == [("bad", 0, "firing"), ("good", 0, "firing")]


def test_every_route_gets_what_it_wants_in_its_own_form(
    settings: Settings, connect: Callable[[], Database], tmp_path: Path
) -> None:
    """PagerDuty, Slack, mail and a webhook each take what is sent; filters, silences and heartbeats hold.

    PagerDuty asks for a pause first, and rejects one message for good: the next goes through all the same.
    """
    login = ("fw", "secret")
    with (
        receiving(pagerduty) as pager,
        receiving(slack) as chat,
        receiving(anything) as every,
        mail_server(tmp_path, login) as mailbox,
    ):
        pager.instead = [(429, {"Retry-After": "1"}, "slow down"), (503, {}, "")]
        mailbox.reject = ["451 later"]
        mail = {"host": HOST, "port": mailbox.port, "ca_file": str(mailbox.ca_file), "from": "fw@example.com"}
        routes = [
            {"name": "on-call", "kind": "pagerduty", "routing_key": KEY, "url": pager.url,
             "when": {"severity": "critical"}},
            {"name": "chat", "kind": "slack", "url": chat.url, "when": {"dimensions": {"os": "iOS"}}},
            {"name": "mail", "kind": "email", **mail, "to": ["a@example.com", "b@example.com"],
             "username": login[0], "password": login[1]},
            hook(every.url, when={"state": "firing"}),
        ]  # fmt: skip
        with notifying(settings, routes):
            publish(
                settings,
                heartbeat(now_ms(), 60_000, "v"),
                alert(alert_id="a", severity="critical"),
                alert(alert_id="b", dimensions={"os": "Android"}),
                alert(alert_id="c", severity="critical", silenced_by="7"),
                alert(alert_id="d" * 300, severity="critical"),
            )
            wait_until(lambda: len(pager.got) == 4 and len(mailbox.mails) == 3, "the first are told")
            wait_until(lambda: len(chat.taken) == 2 and len(every.taken) == 3, "by the other routes as well")
            # Its severity is another by now, and a silence covers it: it is told where its firing was.
            publish(settings, alert("resolved", alert_id="a", sequence=1, silenced_by="7"))
            # It never fired here, as when a silence muted it: that it is over is news to nobody.
            publish(settings, alert("resolved", alert_id="z", dimensions={"os": "Android"}))
            wait_until(lambda: len(mailbox.mails) == 4 and len(pager.taken) == 2, "the resolved are told")
            wait_until(lambda: not NotificationQueue(connect()).waiting(), "nothing waits")
    assert sorted(one.status for one in pager.got) == [202, 202, 400, 429, 503]
    assert [(one["dedup_key"], one["event_action"]) for one in pager.taken] == [("a", "trigger"), ("a", "resolve")]
    assert outcomes(connect, "on-call") == [("a", 0, "sent"), ("a", 1, "sent"), ("d" * 300, 0, "rejected")]
    assert outcomes(connect, "chat") == [("a", 0, "sent"), ("a", 1, "sent"), ("d" * 300, 0, "sent")]
    assert sorted(said(every.taken)) == [("a", 0, "firing"), ("b", 0, "firing"), ("d" * 300, 0, "firing")]
    first = next(mail for mail in mailbox.mails if "FIRING critical" in mail["Subject"])
    over = next(mail for mail in mailbox.mails if mail["Message-ID"] == "<a.1.mail@example.com>")
    assert (first["X-RcptTo"], first["X-TLS"]) == ("a@example.com, b@example.com", "True")
    assert over["References"] == "<a.mail@example.com>"
    assert "RESOLVED ConversionDrop" in over["Subject"]


def test_a_route_that_is_down_delays_only_itself(settings: Settings, connect: Callable[[], Database]) -> None:
    """The other routes are told at once; once it is back it gets the newest of each alert, in order, and no more.

    What began and was over while it was down is told there neither as firing nor as resolved.
    """
    with receiving(anything) as good, receiving(anything) as bad:
        bad.instead = [(503, {}, "down")] * 10_000
        gone = f"http://{HOST}:{free_port()}/"
        with notifying(settings, [hook(good.url, "good"), hook(bad.url, "bad"), hook(gone, "gone")]):
            publish(settings, *(alert(alert_id=name) for name in "abc"))
            # A route that lags may leave out what is superseded; this one is to be told all.
            wait_until(lambda: len(good.taken) == 3, "the good one has the first three")
            publish(
                settings,
                alert(alert_id="a", sequence=1, reason="WORSENED"),
                alert("resolved", alert_id="b", sequence=1),
            )
            wait_until(lambda: len(good.taken) == 5, "the good one has everything")
            queue = NotificationQueue(connect())
            wait_until(lambda: queue.waiting().keys() == {"bad", "gone"}, "that is noted")
            tried = len(bad.got)
            # The attempt that was under way may still have been of what is superseded by now.
            wait_until(lambda: len(bad.got) >= tried + 2, "the bad one is tried again and again")
            assert not bad.taken
            bad.instead = []
            wait_until(lambda: len(bad.taken) >= 2, "the bad one is told what is still worth telling")
            wait_until(lambda: "bad" not in queue.waiting(), "nothing more waits for it")
    assert sorted(said(bad.taken)) == [("a", 1, "firing"), ("c", 0, "firing")]
    assert outcomes(connect, "bad") == [
        ("a", 0, "superseded"), ("a", 1, "sent"), ("b", 0, "superseded"), ("b", 1, "not_notified"), ("c", 0, "sent")
    ]  # fmt: skip


def test_a_message_that_a_receiver_chokes_on_holds_no_other_up(
    settings: Settings, connect: Callable[[], Database]
) -> None:
    """It is tried again behind the others, and given up in the end."""

    def choke(_headers: Any, body: bytes) -> tuple[int, str]:
        return (500, "choked") if b'"alert_id":"poison"' in body else (200, "ok")

    with receiving(choke) as receiver, notifying(settings, [hook(receiver.url, give_up_after="1s")]):
        publish(settings, *(alert(alert_id=name) for name in ("poison", "a", "b")))
        wait_until(lambda: len(receiver.taken) == 2, "the others are told")
        wait_until(lambda: not NotificationQueue(connect()).waiting(), "it is given up")
    assert outcomes(connect, "hook") == [("a", 0, "sent"), ("b", 0, "sent"), ("poison", 0, "given_up")]


def test_a_lane_that_has_to_wait_for_long_keeps_its_route(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The database ends sessions that are idle for long, so that a frozen notifier loses its routes; this one lives."""
    monkeypatch.setattr("funnelwatch.sinks.timescale.notifications.HELD_S", 5.0)
    monkeypatch.setattr("funnelwatch.sinks.alerts.route_worker.KEEP_EVERY_S", 0.3)
    with receiving(anything) as receiver:
        receiver.instead = [(429, {"Retry-After": "7"}, "")]
        with notifying(settings, [hook(receiver.url)]):
            publish(settings, alert())
            wait_until(lambda: receiver.taken, "it is told after the pause")
    assert [one.status for one in receiver.got] == [429, 200]
    assert not [record for record in caplog.records if "the database" in record.getMessage()]


def test_another_notifier_takes_the_route_of_one_that_is_frozen(
    settings: Settings, connect: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message that was under way comes twice, with the same key; all others once, from one of the two."""
    monkeypatch.setattr("funnelwatch.sinks.timescale.notifications.HELD_S", 4.0)
    monkeypatch.setattr("funnelwatch.sinks.alerts.route_worker.STANDBY_S", 0.2)
    monkeypatch.setattr("funnelwatch.sinks.alerts.route_worker.KEEP_EVERY_S", 3_600.0)  # a frozen process keeps nothing
    taken_over = threading.Event()

    def freeze_the_first(number: int) -> None:
        if number == 0:
            assert taken_over.wait(90)
        else:
            taken_over.set()

    with receiving(anything) as receiver:
        receiver.before = freeze_the_first
        routes = [hook(receiver.url, timeout="20s")]
        with notifying(settings, routes), notifying(settings, routes):
            publish(settings, alert(alert_id="a"))
            wait_until(lambda: len(receiver.got) == 2, "the other takes over")
            publish(settings, alert(alert_id="b"), alert(alert_id="c"))
            wait_until(lambda: len(receiver.got) >= 4, "the others are told")
            wait_until(lambda: not NotificationQueue(connect()).waiting(), "nothing waits")
    keys = [one.headers["Funnelwatch-Delivery"] for one in receiver.got]
    assert sorted(keys) == ["a/0", "a/0", "b/0", "c/0"]


def test_a_new_route_is_told_what_fires_and_not_what_is_over(
    settings: Settings, connect: Callable[[], Database]
) -> None:
    """Started with a topic of the past: an alert that still fires is news, one that has resolved is not."""
    publish(settings, alert(alert_id="over"), alert("resolved", alert_id="over", sequence=1), alert(alert_id="fires"))
    with receiving(anything) as receiver, receiving(anything) as later:
        with notifying(settings, [hook(receiver.url)]):
            wait_until(lambda: receiver.taken, "what fires is told")
        with notifying(settings, [hook(receiver.url), hook(later.url, "later")]):
            wait_until(lambda: later.taken, "the new route is told as well")
            publish(settings, alert("resolved", alert_id="fires", sequence=1))
            wait_until(lambda: len(later.taken) == 2 and len(receiver.taken) == 2, "both hear that it is over")
    expected = [("fires", 0, "firing"), ("fires", 1, "resolved")]
    assert (said(receiver.taken), said(later.taken)) == (expected, expected)
    assert outcomes(connect, "later")[2:] == [("over", 0, "superseded"), ("over", 1, "history")]


def test_a_route_is_not_told_what_was_over_before_its_notifier_came_back(
    settings: Settings, connect: Callable[[], Database]
) -> None:
    """Away for longer than an incident: only what still fires is news; what it had told before is resolved."""
    with receiving(anything) as receiver:
        publish(settings, alert(alert_id="told"))
        with notifying(settings, [hook(receiver.url)]):
            wait_until(lambda: receiver.taken, "it is told")
        publish(
            settings,
            alert(alert_id="over"),
            alert("resolved", alert_id="over", sequence=1),
            alert("resolved", alert_id="told", sequence=1),
            alert(alert_id="muted"),
            alert(alert_id="muted", sequence=1, silenced_by="4"),
            alert(alert_id="burns"),
        )
        with notifying(settings, [hook(receiver.url)]):
            wait_until(lambda: len(receiver.taken) >= 3, "the rest is told")
            wait_until(lambda: not NotificationQueue(connect()).waiting(), "nothing waits")
    expected = [("burns", 0, "firing"), ("told", 0, "firing"), ("told", 1, "resolved")]
    assert sorted(said(receiver.taken)) == expected


def test_killed_between_sending_and_noting_it_says_it_again_with_the_same_key_and_nothing_else(
    settings: Settings, tmp_path: Path
) -> None:
    """At least once: of three messages the one under way when the process is killed comes twice, the others once.

    While one notifier runs, a second stands by for its route and repeats nothing.
    """
    file = tmp_path / "routes.yml"
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        out = tmp_path / f"notify-{len(started)}"
        started.append(command.start(settings, "notify", "--routes", str(file), "--web-port", "0", out=out))
        return started[-1]

    def kill_at_the_second(number: int) -> None:
        if number == 1:
            os.kill(started[0].pid, signal.SIGKILL)
            started[0].wait(60)

    try:
        with receiving(anything) as receiver:
            receiver.before = kill_at_the_second
            file.write_text(json.dumps({"routes": [hook(receiver.url)]}))
            publish(settings, *(alert(alert_id=name) for name in "abc"))
            start()
            wait_until(lambda: started[0].poll() is not None, "it is killed")
            assert len(receiver.got) == 2
            start()
            wait_until(lambda: len(receiver.got) == 4, "the rest is told")
            start()
            wait_until(lambda: "messages read" in (tmp_path / "notify-2.err").read_text(), "it stands by")
            publish(settings, alert("resolved", alert_id="a", sequence=1))
            wait_until(lambda: len(receiver.got) == 5, "what is new is told")
            for one in started[1:]:
                one.send_signal(signal.SIGTERM)
                assert one.wait(60) == 0
        keys = [one.headers["Funnelwatch-Delivery"] for one in receiver.got]
        assert sorted(keys) == sorted(["a/0", "b/0", "c/0", "a/1", keys[1]])
    finally:
        for one in started:
            if one.poll() is None:
                one.kill()
                one.wait(60)


def test_a_person_checks_tries_and_reads_the_log(settings: Settings, tmp_path: Path) -> None:
    """Check names what is wrong, test sends now and says what came back, log shows what was told; metrics are there."""
    file, port = tmp_path / "routes.yml", free_port()
    file.write_text("routes:\n  - {name: w, kind: webhook, url: nowhere}\n")
    wrong = command.run(settings, "notify", "check", str(file))
    assert (wrong.exit_code, "routes.yml:2: routes[0].url: is not a web address" in wrong.stderr) == (1, True)
    assert command.run(settings, "notify").exit_code == 2
    with receiving(slack) as receiver:
        file.write_text(f"routes:\n  - {{name: w, kind: slack, url: '{receiver.url}', when: {{severity: critical}}}}\n")
        assert command.succeed(settings, "notify", "check", str(file)) == 'w: slack, {"severity": ["critical"]}\n'
        tried = command.succeed(settings, "notify", "--routes", str(file), "test", "w", "--resolve")
        assert tried == "route w: firing: 200 ok\nroute w: resolved: 200 ok\n"
        receiver.instead = [(404, {}, "channel_not_found")]
        failed = command.run(settings, "notify", "--routes", str(file), "test", "w")
        assert (failed.exit_code, "404 channel_not_found" in failed.stderr) == (1, True)
        unknown = command.run(settings, "notify", "--routes", str(file), "test", "x")
        assert (unknown.exit_code, "there is no route x; the file has w" in unknown.stderr) == (2, True)
        publish(settings, alert(severity="critical"))
        one = command.start(settings, "notify", "--routes", str(file), "--web-port", str(port), out=tmp_path / "notify")
        try:
            wait_until(lambda: len(receiver.taken) == 3, "it is told")
            wait_until(lambda: 'notifications_total{outcome="sent",route="w"} 1.0' in metrics(port), "it is counted")
        finally:
            one.send_signal(signal.SIGINT)
            assert one.wait(60) == 0, (tmp_path / "notify.err").read_text()
    [row] = [json.loads(line) for line in command.succeed(settings, "notify", "log", "--json").splitlines()]
    assert (row["route"], row["outcome"], row["alert_id"], row["answer"]) == ("w", "sent", "a-1", "200 ok")
    assert "  w  sent  FIRING critical ConversionDrop" in command.succeed(settings, "notify", "log", "--route", "w")


def metrics(port: int) -> str:
    """The page of metrics; empty while there is none."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=30) as answer:
            return str(answer.read().decode())
    except OSError:
        return ""
