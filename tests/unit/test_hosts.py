"""The host names that a server answers to, and how many connections it has."""

from __future__ import annotations

import asyncio
import resource
import socket
from dataclasses import dataclass
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from funnelwatch.producers.http.connections import ConnectionLimits, Connections, fitting
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.web_hosts import Hosts, names_of
from funnelwatch.web.board.hub import FullError, Hub
from funnelwatch.web.board.query import BoardQuery
from funnelwatch.web.serving import MetricsPage


@pytest.mark.parametrize(
    ("header", "answered"),
    [
        ("localhost", True),
        ("LocalHost:6066", True),
        ("localhost.", True),
        ("127.0.0.1:6066", True),
        ("10.1.2.3", True),
        ("[::1]:6066", True),
        ("[fd00::1]", True),
        ("exporter:6090", True),
        ("Board.Example.", True),
        ("", False),
        ("evil.example", False),
        ("evil.example:6066", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("exporter.evil.example", False),
        ("2130706433", False),
        ("[evil.example]", False),
        ("*", False),
    ],
)
def test_a_request_is_answered_for_addresses_localhost_and_names_that_are_set(header: str, answered: bool) -> None:
    """A page of somebody else's can make the browser send its own name only."""
    assert Hosts(names_of("exporter, board.example", "127.0.0.1")).answers(header) is answered


def test_a_server_that_others_reach_answers_to_its_own_name() -> None:
    """And one that is asked to answers to any."""
    own = socket.gethostname()
    assert Hosts(names_of("", "0.0.0.0")).answers(f"{own}:6090")
    assert not Hosts(names_of("", "127.0.0.1")).answers("some-name")
    assert Hosts(names_of("*", "127.0.0.1")).answers("anything.example")


@dataclass(eq=False)
class Client:
    """A connection."""

    address: str
    waiting_since: float | None = 0.0
    gone: bool = False

    def turn_away(self) -> None:
        """It is closed."""
        self.gone = True


def test_the_connection_that_has_been_waiting_longest_gives_way() -> None:
    """Not one whose request is answered."""
    connections = Connections(ConnectionLimits(1.0, 3))
    busy, older, newer, newest = Client("a", None), Client("b", 1.0), Client("c", 2.0), Client("d", 3.0)
    assert all(connections.enter(one) for one in (busy, older, newer, newest))
    assert [one.gone for one in (busy, older, newer, newest)] == [False, True, False, False]
    connections.leave(older)
    newer.waiting_since = newest.waiting_since = None
    late = Client("e", 4.0)
    assert not connections.enter(late)
    connections.leave(busy)
    assert connections.enter(Client("f", 5.0))


def test_an_address_has_a_share_of_the_connections() -> None:
    """Its own oldest give way; a trusted proxy has no such limit."""
    connections = Connections(ConnectionLimits(1.0, 10, 2, frozenset({"proxy"})))
    many = [Client("a", at) for at in range(5)]
    assert all(connections.enter(one) for one in many)
    assert [one.gone for one in many] == [True, True, True, False, False]
    assert all(connections.enter(Client("proxy", None)) for _ in range(8))
    for one in many:
        one.waiting_since = None
    assert not connections.enter(Client("a", 9.0))


def test_there_are_no_more_connections_than_file_descriptors() -> None:
    """The limit of the process is raised as far as it may be; the rest is not promised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = ConnectionLimits(1.0, 200)
    assert fitting(wanted).connections == 200
    assert resource.getrlimit(resource.RLIMIT_NOFILE) >= (364, hard)
    if hard != resource.RLIM_INFINITY:
        assert fitting(ConnectionLimits(1.0, hard * 2)).connections < hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_an_address_has_a_share_of_the_pages() -> None:
    """Others are let in."""
    hub = Hub(Settings(board_max_pages_per_address=2), lambda: None)  # type: ignore[arg-type, return-value]
    with hub.watch(BoardQuery(), "a"), hub.watch(BoardQuery(), "a"):
        with pytest.raises(FullError, match="2 pages of your address are open"):
            hub.admit(BoardQuery(), "a")
        hub.admit(BoardQuery(), "b")
    hub.admit(BoardQuery(), "a")
    hub.stop()


def page(
    path: str = "/metrics", method: str = "GET", query: bytes = b"", **headers: str
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body of an answer."""
    registry = CollectorRegistry()
    for name in ("one", "two"):
        Counter(name, "A counter.", registry=registry).inc(3)
    app = MetricsPage(registry, Hosts(["exporter"]))
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    given = {"host": "exporter:6090", **headers}
    scope = {
        "type": "http",
        "path": path,
        "method": method,
        "query_string": query,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(app(scope, None, send))  # type: ignore[arg-type]
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_metrics_are_shown_to_whom_they_are_meant_for() -> None:
    """On their path, and for the host names of the server."""
    assert page()[0] == 200
    assert b"one_total 3.0" in page()[2]
    assert page(host="evil.example")[::2] == (
        400,
        b"this server does not answer to that host name; FUNNELWATCH_WEB_HOSTS names those it answers to\n",
    )
    assert [page(host="evil.example", path=path)[0] for path in ("/", "/favicon.ico", "/x")] == [400] * 3
    assert (page("/x")[0], page("/")[0], page(method="POST")[0]) == (404, 200, 405)


def test_metrics_are_told_in_the_form_that_is_asked_for() -> None:
    """OpenMetrics, a selection, and packed."""
    assert page(accept="application/openmetrics-text; version=1.0.0")[2].endswith(b"# EOF\n")
    assert b"two" not in page(query=b"name[]=one_total")[2]
    assert page(accept_encoding="gzip")[1][b"content-encoding"] == b"gzip"
