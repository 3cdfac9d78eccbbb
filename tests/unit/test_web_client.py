"""Requests of HTTP: logins in addresses, and what a redirect takes along, against real servers of this machine."""

from __future__ import annotations

import base64
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.cli.doctor_services import check_registry
from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.producers.bridge.mapping import Map, Target
from funnelwatch.producers.bridge.target import Bridge, ScrapeError
from funnelwatch.schemas.registry import Registry, RegistryUnavailable
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.web_client import Unanswered, ask, origin, without_login
from funnelwatch.sinks.alerts.delivery import Outcome
from funnelwatch.sinks.alerts.routes import parse_routes
from tests.alerts import alert
from tests.receivers import receiving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASSWORD = "p@ss/w:rd% ?#"
ENCODED = "p%40ss%2Fw%3Ard%25%20%3F%23"
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()
OWN = {"authorization", "x-token", "funnelwatch-signature", "funnelwatch-delivery", "cookie"}
"""Headers that nobody but the named server may see."""


@dataclass
class Server:
    """One that wants a login, and may send its clients elsewhere.

    Attributes:
        url: where it answers.
        login: the header that it wants; None: it takes everybody.
        elsewhere: by path, the status and the address to which it redirects.
        got: method, path and headers of each request.
    """

    url: str
    login: str | None = None
    elsewhere: dict[str, tuple[int, str]] = field(default_factory=dict)
    got: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    @property
    def with_login(self) -> str:
        """Its address with the login."""
        return self.url.replace("//", f"//me:{ENCODED}@")

    @property
    def seen(self) -> set[str]:
        """The names of all headers that it has got."""
        return {name for _, _, headers in self.got for name in headers}


@contextmanager
def serving(login: str | None = None) -> Iterator[Server]:
    """A running server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.rfile.read(int(headers.get("content-length", 0)))
            server.got.append((self.command, self.path, headers))
            status, where = server.elsewhere.get(self.path, (200, ""))
            if server.login is not None and headers.get("authorization") != server.login:
                status, where = 401, ""
            self.send_response(status)
            if where:
                self.send_header("Location", where)
            self.end_headers()
            self.wfile.write(b"[]" if self.path == "/subjects" else b'{"schema": "\\"string\\"", "id": 1}')

        do_POST = do_GET  # noqa: N815 - the base class looks for this name

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as running:
        server = Server(f"http://{HOST}:{running.server_address[1]}", login)
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            running.shutdown()
            thread.join()


@pytest.fixture
def guarded() -> Iterator[Server]:
    """A server that wants a login."""
    with serving(BASIC) as server:
        yield server


@pytest.fixture
def other() -> Iterator[Server]:
    """A server at another port, which takes everybody."""
    with serving() as server:
        yield server


def test_doctor_logs_in_to_a_registry(guarded: Server) -> None:
    """With user and password in the address, percent-encoded; neither is printed."""
    [found] = check_registry(Settings(schema_registry_url=guarded.with_login))
    assert (found.level, found.message) == ("ok", f"http://***@{guarded.url[7:]} answers")


@pytest.mark.parametrize("login", ["", "me:wr0ngpass@", "wr0ngpass@", ":wr0ngpass@"])
def test_doctor_tells_that_a_login_is_wrong(guarded: Server, login: str) -> None:
    """What the registry answers, and how a login is written; not the one that was tried."""
    [found] = check_registry(Settings(schema_registry_url=guarded.url.replace("//", f"//{login}")))
    assert found.level == "FAILED"
    assert "denies access: HTTP 401" in found.message
    assert "name a user and a password" in found.message
    assert "wr0ngpass" not in f"{found}"


def deliver(kind: str, fields: str) -> Callable[[Server, Path], object]:
    """Sends an alert on a route of that kind."""

    def send(server: Server, folder: Path) -> object:
        place = f"{server.with_login}/hook"
        [route] = parse_routes(f"routes: [{{name: r, kind: {kind}, url: '{place}', {fields}}}]", "f", {})
        answer = route.deliver(alert(), None, 0)
        assert answer.outcome in {Outcome.LATER, Outcome.REJECTED}, answer
        assert PASSWORD not in answer.text
        return answer

    return send


def scrape(server: Server, folder: Path) -> object:
    """A bridge's request."""
    target = Target(name="t", url=f"{server.with_login}/metrics", maps=[Map(metric="a", counter={"name": "b"})])  # type: ignore[arg-type]
    bridge = Bridge(target, None, folder / "state", lambda: 0)  # type: ignore[arg-type]
    try:
        return bridge._scrape()
    except ScrapeError as error:
        return error


CLIENTS: dict[str, tuple[str, Callable[[Server, Path], Any]]] = {
    "registry: a schema": ("/schemas/ids/1", lambda server, _: Registry(server.with_login).schemas(1)),
    "doctor": ("/subjects", lambda server, _: list(check_registry(Settings(schema_registry_url=server.with_login)))),
    "bridge": ("/metrics", scrape),
    "any": ("/x", lambda server, _: ask(f"{server.with_login}/x", timeout_s=30, headers={"X-Token": "secret"})),
    "webhook": ("/hook", deliver("webhook", "secret: s, headers: {X-Token: t}")),
    "slack": ("/hook", deliver("slack", "timeout: 20s")),
    "pagerduty": ("/hook", deliver("pagerduty", "routing_key: k")),
    "alertmanager": ("/hook/api/v2/alerts", deliver("alertmanager", "username: me, password: other")),
}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("client", CLIENTS)
def test_no_redirect_takes_a_login_to_another_origin(other: Server, tmp_path: Path, client: str, status: int) -> None:
    """Another port is another origin; an alert, which is a POST, is not sent on at all."""
    path, run = CLIENTS[client]
    with serving() as server:
        server.elsewhere[path] = status, f"{other.url}{path}"
        run(server, tmp_path)
        assert "authorization" in server.seen
    assert not OWN & other.seen
    assert all(method == "GET" for method, _, _ in other.got)
    assert bool(other.got) == (path != "/hook" and client != "alertmanager")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_schema_that_is_registered_is_not_sent_on(other: Server, status: int) -> None:
    """The redirect is the answer, and it is an outage: the schema would be lost."""
    with serving() as server:
        server.elsewhere["/subjects/s/versions"] = status, f"{other.url}/subjects/s/versions"
        with pytest.raises(RegistryUnavailable, match=f"HTTP {status}"):
            Registry(server.with_login).register("s", "string")
    assert other.got == []


def test_a_redirect_within_the_origin_keeps_the_login(guarded: Server) -> None:
    """As a registry behind a prefix does it."""
    guarded.elsewhere = {"/a": (302, "/b"), "/b": (301, f"{guarded.url}/c")}
    assert ask(f"{guarded.with_login}/a", timeout_s=30).status == 200
    assert [headers["authorization"] for _, _, headers in guarded.got] == [BASIC] * 3


def test_a_login_does_not_come_back_by_a_detour(guarded: Server, other: Server) -> None:
    """What another server redirects is its own request, not ours."""
    guarded.elsewhere["/a"] = 302, f"{other.url}/b"
    other.elsewhere["/b"] = 302, f"{guarded.url}/c"
    assert ask(f"{guarded.with_login}/a", timeout_s=30).status == 401
    assert "authorization" not in guarded.got[-1][2]


@pytest.mark.parametrize(
    "where", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://me:pw@127.0.0.1/x", "http://h:x/"]
)
def test_a_redirect_out_of_the_web_is_not_followed(guarded: Server, where: str) -> None:
    """Nor one whose address holds a login; the redirect is the answer."""
    guarded.elsewhere["/a"] = 302, where
    assert ask(f"{guarded.with_login}/a", timeout_s=30).status == 302


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h/a", "http://H:80/b", True),
        ("https://h/a", "https://h:443/b", True),
        ("http://h/", "https://h/", False),
        ("https://h/", "http://h:443/", False),
        ("http://h/", "http://h:81/", False),
        ("http://h/", "http://sub.h/", False),
        ("http://[::1]/", "http://[::1]:80/", True),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    """A scheme's own port need not be written."""
    assert (origin(one) == origin(other)) is same


@pytest.mark.parametrize(
    ("address", "bare", "login"),
    [
        ("http://h:1/x?y=1", "http://h:1/x?y=1", None),
        ("http://me:pw@h/x", "http://h/x", "me:pw"),
        ("http://me:p@ss@h/x", "http://h/x", "me:p@ss"),
        ("http://me:p%zz@h", "http://h", "me:p%zz"),
        ("https://token@h", "https://h", "token:"),
        ("https://:pw@h", "https://h", ":pw"),
        ("http://m%C3%BC:%20@h", "http://h", "mü: "),
    ],
)
def test_a_login_is_taken_out_of_the_address(address: str, bare: str, login: str | None) -> None:
    """Decoded, in whichever part it stands."""
    found, headers = without_login(address)
    expected = {} if login is None else {"Authorization": "Basic " + base64.b64encode(login.encode()).decode()}
    assert (found, headers) == (bare, expected)


@pytest.mark.parametrize(
    "address", ["http://me:pw/x@h", "http://me:pw", "ftp://me:pw@h", "me:pw@h", "http://me:pw@[h/"]
)
def test_what_is_no_address_is_rejected_without_its_login(address: str) -> None:
    """The message has an example."""
    with pytest.raises(ValueError, match="https://host:port/path") as rejected:
        without_login(address)
    assert "pw" not in str(rejected.value)


@pytest.mark.parametrize("before", [0, 265, 272, 280])
def test_an_answer_that_repeats_a_secret_is_told_without_it(before: int) -> None:
    """Wherever it stands: an answer is cut after some characters, and half a secret is one, too."""

    def reject(_headers: object, body: bytes) -> tuple[int, str]:
        return 400, "x" * before + " invalid routing key s3cretrout1ngkey0123456789"

    with receiving(reject) as server:
        text = f"routes: [{{name: r, kind: pagerduty, routing_key: s3cretrout1ngkey0123456789, url: '{server.url}'}}]"
        [route] = parse_routes(text, "f", {})
        answer = route.deliver(alert(), None, 0)
    assert answer.outcome is Outcome.REJECTED
    assert "s3cret" not in answer.text


def test_no_answer_is_told_without_the_login() -> None:
    """A rejected connection."""
    with ExitStack() as stack:
        server = stack.enter_context(serving())
        address = f"{server.with_login}/x?token=t0k3n"
    with pytest.raises(Unanswered) as silent:
        ask(address, timeout_s=30)
    assert str(silent.value).startswith(f"http://***@{server.url[7:]}/x does not answer: ")
    assert "t0k3n" not in str(silent.value)
