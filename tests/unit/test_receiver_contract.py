"""The contract of ``Receiver.deliver``, for every receiver: it is bounded, never raises and shows no secret."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.deploy.embedded.ports import HOST, free_port
from funnelwatch.sinks.alerts.delivery import DeliveryResult, Outcome
from funnelwatch.sinks.alerts.routes import KINDS, parse_routes
from tests.alerts import alert
from tests.receivers import Mailbox, anything, mail_server, pagerduty, receiving, slack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from funnelwatch.sinks.alerts.receiver import Receiver
    from tests.receivers import Receiver as Endpoint

KEY = "0123456789abcdef0123456789ABCDEF"
PASSWORD = "correct-horse-battery"
HTTP_CHECKS: dict[str, Callable[[Mapping[str, str], bytes], tuple[int, str]]] = {
    "webhook": anything, "slack": slack, "pagerduty": pagerduty, "alertmanager": anything,
}  # fmt: skip


def receiver(kind: str, port: int, ca_file: Path | None = None) -> Receiver:
    """A route of a kind to a port of this machine, with every secret that the kind knows; it has two seconds."""
    url = f"http://{HOST}:{port}/hook"
    fields: dict[str, Any] = {
        "webhook": {"url": url, "secret": PASSWORD, "headers": {"Authorization": f"Bearer {KEY}"}},
        "slack": {"url": url},
        "pagerduty": {"url": url, "routing_key": KEY},
        "alertmanager": {"url": url, "username": "on-call", "password": PASSWORD},
        "email": {
            "host": HOST, "port": port, "from": "f@example.com", "to": "on-call@example.com",
            "username": "on-call", "password": PASSWORD, **({"ca_file": str(ca_file)} if ca_file else {}),
        },
    }[kind]  # fmt: skip
    written = {"name": "r", "kind": kind, "timeout": "2s", **fields}
    [found] = parse_routes(json.dumps({"routes": [written]}), "f", {})
    return found


@dataclass
class Other:
    """The other side of a delivery, for one kind of receiver.

    Attributes:
        receiver: delivers to it.
        endpoint: where it is an HTTP endpoint.
        mailbox: where it is a mail server.
    """

    kind: str
    receiver: Receiver
    endpoint: Endpoint | None = None
    mailbox: Mailbox | None = None
    keys: list[str] = field(default_factory=list)

    def answers_once(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        """Give the next message this answer; of a mail server 5xx for a status that blames the message, else 421."""
        if self.endpoint:
            self.endpoint.instead.append((status, headers or {}, text))
        elif self.mailbox:
            self.mailbox.reject.append(f"{554 if status == 400 else 421} {text}")

    def identities(self) -> list[str]:
        """By what the other side knows each accepted message again."""
        if self.mailbox:
            return [mail["Message-ID"] for mail in self.mailbox.mails]
        assert self.endpoint
        got = [one for one in self.endpoint.got if one.status < 300]
        if self.kind == "webhook":
            return [one.headers["Funnelwatch-Delivery"] for one in got]
        if self.kind == "pagerduty":
            return [f"{one.json['dedup_key']} {one.json['event_action']}" for one in got]
        if self.kind == "alertmanager":
            return [json.dumps(one.json[0]["labels"], sort_keys=True) for one in got]
        return []


@pytest.fixture(params=sorted(KINDS))
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Other]:
    """A working other side of each kind."""
    kind = request.param
    if kind == "email":
        with mail_server(tmp_path, login=("on-call", PASSWORD)) as mailbox:
            yield Other(kind, receiver(kind, mailbox.port, mailbox.ca_file), mailbox=mailbox)
        return
    with receiving(HTTP_CHECKS[kind]) as endpoint:
        port = int(endpoint.url.rpartition(":")[2].partition("/")[0])
        yield Other(kind, receiver(kind, port), endpoint=endpoint)


def resolved(firing: dict[str, Any]) -> dict[str, Any]:
    """The message that ends an alert."""
    return {**firing, "state": "resolved", "reason": "RECOVERED", "sequence": firing["sequence"] + 1}


def test_a_firing_and_a_resolved_message_are_both_sent(other: Other) -> None:
    """Every receiver has a message for the end of an alert."""
    firing = alert()
    assert other.receiver.deliver(firing, None, 0).outcome is Outcome.SENT
    assert other.receiver.deliver(resolved(firing), firing, 60_000).outcome is Outcome.SENT


def test_a_repeated_message_is_recognizable(other: Other) -> None:
    """The same message has the same key however often it is sent; only Slack knows no key."""
    for _ in range(2):
        assert other.receiver.deliver(alert(), None, 0).outcome is Outcome.SENT
    identities = other.identities()
    assert len(set(identities)) == (0 if other.kind == "slack" else 1)
    assert len(identities) == (0 if other.kind == "slack" else 2)
    assert other.receiver.is_repeatable is (other.kind in {"pagerduty", "alertmanager"})


def test_an_answer_that_blames_the_message_is_final(other: Other) -> None:
    """The same message would be rejected again."""
    other.answers_once(400, "no such field")
    assert other.receiver.deliver(alert(), None, 0).outcome is Outcome.REJECTED
    assert other.receiver.deliver(alert(), None, 0).outcome is Outcome.SENT


def test_an_overloaded_receiver_is_asked_later_and_not_before_it_wants(other: Other) -> None:
    """HTTP has Retry-After for it; SMTP names no time."""
    other.answers_once(429, "slow down", {"Retry-After": "17"})
    result = other.receiver.deliver(alert(), None, 0)
    assert (result.outcome, result.retry_after_s) == (Outcome.LATER, None if other.kind == "email" else 17)


def test_no_answer_shows_a_secret(other: Other) -> None:
    """The text is logged, stored and printed, whatever the other side repeats."""
    other.answers_once(400, f"who is on-call:{PASSWORD} with {KEY}?")
    text = other.receiver.deliver(alert(), None, 0).text
    assert "who is" in text
    secrets = {"webhook": [PASSWORD, KEY], "pagerduty": [KEY], "alertmanager": [PASSWORD], "email": [PASSWORD]}
    for secret in secrets.get(other.kind, []):
        assert secret not in text
        assert secret not in repr(other.receiver)


def refuses(port: int) -> contextlib.AbstractContextManager[int]:
    """Nothing listens."""
    return contextlib.nullcontext(port)


@contextlib.contextmanager
def serves(port: int, serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that treats each connection in one way."""
    ended = threading.Event()

    def accept(listener: socket.socket) -> None:
        held = []
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                break
            held.append(connection)
            with contextlib.suppress(OSError):
                serve(connection)
        for one in held:
            one.close()

    with socket.create_server((HOST, port)) as listener:
        thread = threading.Thread(target=accept, args=(listener,))
        thread.start()
        try:
            yield port
        finally:
            ended.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def hangs_up(port: int) -> contextlib.AbstractContextManager[int]:
    """A server that closes every connection."""
    return serves(port, lambda connection: connection.close())


def says_nothing(port: int) -> contextlib.AbstractContextManager[int]:
    """A server that neither reads nor answers."""
    return serves(port, lambda _: None)


def speaks_nonsense(port: int) -> contextlib.AbstractContextManager[int]:
    """A server of another protocol."""
    return serves(port, lambda connection: connection.sendall(b"\xff\x00SSH-2.0-OpenSSH\r\n" * 100))


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("server", [refuses, hangs_up, says_nothing, speaks_nonsense])
def test_a_delivery_neither_raises_nor_outlasts_its_timeout(
    kind: str, server: Callable[[int], contextlib.AbstractContextManager[int]]
) -> None:
    """The message is sent again later, or counts as unanswered where all of it had left."""
    with server(free_port()) as port:
        began = time.monotonic()
        result: DeliveryResult = receiver(kind, port).deliver(alert(), None, 0)
        took_s = time.monotonic() - began
    assert result.outcome in {Outcome.LATER, Outcome.UNANSWERED}
    assert result.outcome is Outcome.LATER or server is not refuses
    assert result.text
    assert took_s < 20  # 2 s, on a machine that does other things as well
