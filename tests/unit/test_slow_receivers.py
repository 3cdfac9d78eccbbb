"""Receivers that are slow in every way: one bound for a delivery, and the right answer to whether they have it."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.sinks.alerts.bound import Bound
from funnelwatch.sinks.alerts.delivery import DeliveryResult, Outcome
from funnelwatch.sinks.alerts.routes import parse_routes
from tests.alerts import alert
from tests.slow_servers import Slow, Visit, mail_script, serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.sinks.alerts.receiver import Receiver

KEY = "0123456789abcdef0123456789ABCDEF"


def route(kind: str, slow: Slow, timeout: str = "1.5s", **more: Any) -> Receiver:
    """A route of a kind to a server."""
    fields = {
        "webhook": {"url": slow.url},
        "slack": {"url": slow.url},
        "alertmanager": {"url": slow.url},
        "pagerduty": {"url": slow.url, "routing_key": KEY},
        "email": {
            "host": HOST, "port": slow.port, "tls": "none", "from": "f@example.com",
            "to": [f"{name}@example.com" for name in "abcde"],
        },
    }[kind]  # fmt: skip
    written = {"name": "r", "kind": kind, "timeout": timeout, **fields, **more}
    [found] = parse_routes(json.dumps({"routes": [written]}), "f", {})
    return found


def delivered(one: Receiver) -> tuple[DeliveryResult, float]:
    """The answer, and how long it took, s."""
    began = time.monotonic()
    answer = one.deliver(alert(), None, 0)
    return answer, time.monotonic() - began


def trickles_its_body(slow: Slow, visit: Visit) -> None:
    """The status comes at once, and the body byte by byte."""
    slow.requests.append(visit.request())
    visit.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n")
    visit.trickle(b"x" * 600, 0.1)


def trickles_its_head(slow: Slow, visit: Visit) -> None:
    """A byte of the head every tenth of a second: no read waits for long, the whole takes a minute."""
    slow.requests.append(visit.request())
    visit.trickle(b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 600, 0.1)


def goes_on_and_on(slow: Slow, visit: Visit) -> None:
    """100 Continue, as fast as it goes, without an end."""
    slow.requests.append(visit.request())
    while not visit.ended.is_set():
        visit.connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 1_000)


def says_nothing(slow: Slow, visit: Visit) -> None:
    """Takes the request and does not answer."""
    slow.requests.append(visit.request())
    visit.pause(60)


def never_reads(_slow: Slow, visit: Visit) -> None:
    """Accepts the connection and looks at nothing."""
    visit.pause(60)


def hangs_up(slow: Slow, visit: Visit) -> None:
    """Takes the request and closes the connection."""
    slow.requests.append(visit.request())


def answers_with_much(slow: Slow, visit: Visit) -> None:
    """A body of more than anybody reads."""
    slow.requests.append(visit.request())
    visit.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not visit.ended.is_set():
        visit.connection.sendall(b"x" * 100_000)


HTTP: dict[Callable[[Slow, Visit], None], Outcome] = {
    trickles_its_body: Outcome.SENT,
    answers_with_much: Outcome.SENT,
    trickles_its_head: Outcome.UNANSWERED,
    goes_on_and_on: Outcome.UNANSWERED,
    says_nothing: Outcome.UNANSWERED,
    hangs_up: Outcome.UNANSWERED,
}


EVERY_KIND = [(trickles_its_head, kind) for kind in ("slack", "pagerduty", "alertmanager")]


@pytest.mark.parametrize(("script", "kind"), [*((script, "webhook") for script in HTTP), *EVERY_KIND])
def test_a_delivery_over_http_has_one_bound_whatever_the_receiver_does(
    script: Callable[[Slow, Visit], None], kind: str
) -> None:
    """A status decides, however its body comes; without one the receiver may have the message, once."""
    with serving(script) as slow:
        answer, took_s = delivered(route(kind, slow))
    assert answer.outcome is HTTP[script]
    assert len(slow.requests) == 1
    assert took_s < 30  # by its reads alone each would take a minute


def test_a_status_that_rejects_counts_though_its_body_trickles() -> None:
    """What blames the message is final at once."""

    def script(slow: Slow, visit: Visit) -> None:
        slow.requests.append(visit.request())
        visit.connection.sendall(b"HTTP/1.1 422 No\r\nContent-Length: 600\r\n\r\nbecause")
        visit.trickle(b"x" * 593, 0.1)

    with serving(script) as slow:
        answer, _ = delivered(route("webhook", slow))
    assert (answer.outcome, answer.text[:11]) == (Outcome.REJECTED, "422 because")


@pytest.mark.parametrize("kind", ["webhook", "email"])
def test_a_handshake_that_trickles_is_bounded_and_nothing_was_sent(kind: str) -> None:
    """TLS records byte by byte: the receiver has nothing, so the message is sent again like after any outage."""
    record = b"\x16\x03\x03\x02\x58" + b"x" * 600

    def script(_slow: Slow, visit: Visit) -> None:
        visit.trickle(record, 0.1)

    with serving(script) as slow:
        more = {"tls": "tls"} if kind == "email" else {"url": slow.url.replace("http:", "https:")}
        answer, took_s = delivered(route(kind, slow, **more))
    assert answer.outcome is Outcome.LATER
    assert took_s < 30


@pytest.mark.parametrize("kind", ["webhook", "email"])
def test_a_name_that_is_resolved_slowly_is_bounded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver cannot be interrupted; the delivery goes without it, and nothing is sent when it answers late."""
    ended = threading.Event()
    genuine = socket.getaddrinfo

    def slowly(*args: Any, **more: Any) -> Any:
        ended.wait(60)
        return genuine(*args, **more)

    with serving(hangs_up) as slow:
        one = route(kind, slow)
        monkeypatch.setattr(socket, "getaddrinfo", slowly)
        answer, took_s = delivered(one)
        ended.set()
        for thread in threading.enumerate():
            if thread.name.startswith("resolve"):
                thread.join(60)
        assert slow.visits == 0
    assert (answer.outcome, "timed out" in answer.text) == (Outcome.LATER, True)
    assert took_s < 30


def test_a_large_message_to_a_receiver_that_does_not_read_is_bounded() -> None:
    """Sending waits as well; a part of a message is none."""
    with serving(never_reads) as slow:
        one = route("webhook", slow)
        answer = one.deliver(alert(annotations={"summary": "x" * 50_000_000}), None, 0)
    assert answer.outcome is Outcome.LATER


def test_a_mail_server_that_takes_its_time_gets_a_mail_once() -> None:
    """Five recipients and a pause before every answer, each shorter than the bound and all together too."""
    with serving(mail_script(0.1)) as slow:
        answer, _ = delivered(route("email", slow, "60s"))
    assert (answer.outcome, len(slow.requests)) == (Outcome.SENT, 1)


def test_a_mail_server_that_is_slower_than_the_bound_gets_nothing() -> None:
    """No single answer takes as long as the bound; all together do, before the message is sent."""
    with serving(mail_script(0.3)) as slow:
        answer, took_s = delivered(route("email", slow))
    assert (answer.outcome, slow.requests) == (Outcome.LATER, [])
    assert took_s < 30


def test_a_mail_that_is_taken_without_an_answer_may_have_arrived() -> None:
    """All was sent: to send it again may show it twice."""
    with serving(mail_script(0.0, last_pause_s=60.0)) as slow:
        answer, _ = delivered(route("email", slow))
    assert (answer.outcome, len(slow.requests)) == (Outcome.UNANSWERED, 1)


def test_a_mail_server_that_is_slow_to_say_good_bye_has_the_mail() -> None:
    """What comes after "250" for the message changes nothing."""

    def script(slow: Slow, visit: Visit) -> None:
        genuine = visit.connection.sendall

        class Forever:
            def makefile(self, mode: str) -> Any:
                return visit.connection.makefile(mode)  # type: ignore[call-overload]

            def sendall(self, data: bytes) -> None:
                if data.startswith(b"221"):
                    visit.trickle(b"221-" + b"x" * 600, 0.1)
                genuine(data)

        slowly = Visit(Forever(), visit.ended)  # type: ignore[arg-type]
        mail_script(0.0)(slow, slowly)

    with serving(script) as slow:
        answer, took_s = delivered(route("email", slow, "60s"))
    assert (answer.outcome, len(slow.requests)) == (Outcome.SENT, 1)
    assert took_s < 50


def test_a_member_of_a_cluster_that_is_slow_takes_no_time_from_the_others() -> None:
    """Alertmanager: one has it, so it is sent; all are told side by side."""

    def quick(slow: Slow, visit: Visit) -> None:
        slow.requests.append(visit.request())
        visit.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(says_nothing) as bad, serving(quick) as good, serving(trickles_its_head) as worse:
        answer, took_s = delivered(route("alertmanager", bad, url=[bad.url, good.url, worse.url]))
    assert (answer.outcome, len(good.requests), len(bad.requests), len(worse.requests)) == (Outcome.SENT, 1, 1, 1)
    assert took_s < 30


def test_a_bound_is_over_for_time_and_for_bytes() -> None:
    """Its clock is an argument: nothing waits here."""
    now = [0.0]
    bound = Bound(10, 100, lambda: now[0])
    assert bound.left() == 10
    now[0] = 4
    bound.shorten(60)
    assert bound.left() == 6
    bound.shorten(1)
    assert (bound.left(), bound.took(100)) == (1, 100)
    with pytest.raises(OSError, match="too many bytes"):
        bound.took(1)
    now[0] = 5
    with pytest.raises(TimeoutError, match="took 10 s"):
        bound.left()
