"""What alerts are sent to, on this machine: servers that check what they get as the real ones say that they do."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from funnelwatch.deploy.embedded.ports import HOST, free_port

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator, Mapping
    from email.message import Message
    from pathlib import Path

Reply = tuple[int, dict[str, str], str]


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


@dataclass
class Receiver:
    """An HTTP endpoint.

    Attributes:
        check: status and body for a request's headers and body.
        url: where it answers.
        got: the requests so far.
        instead: replies that the next requests get instead, in order.
        before: called with each request's number, from 0, before it is answered.
    """

    check: Callable[[Mapping[str, str], bytes], tuple[int, str]]
    url: str = ""
    got: list[Got] = field(default_factory=list)
    instead: list[Reply] = field(default_factory=list)
    before: Callable[[int], None] = lambda _: None

    @property
    def taken(self) -> list[Any]:
        """The documents that it has accepted."""
        return [one.json for one in self.got if one.status < 300]

    def reply(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """What to answer."""
        instead = self.instead  # a test may put another list there meanwhile
        status, more, text = instead.pop(0) if instead else (0, {}, "")
        if not status:
            status, text = self.check(headers, body)
        self.got.append(Got(path, headers, body, status))
        self.before(len(self.got) - 1)
        return status, more, text


@contextmanager
def receiving(check: Callable[[Mapping[str, str], bytes], tuple[int, str]]) -> Iterator[Receiver]:
    """A running endpoint on a free port of 127.0.0.1."""
    receiver = Receiver(check)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, text = receiver.reply(self.path, dict(self.headers), body)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(text.encode())))
            with contextlib.suppress(ConnectionError):  # whoever asked was killed meanwhile
                self.end_headers()
                self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer((HOST, 0), Handler) as server:
        receiver.url = f"http://{HOST}:{server.server_address[1]}/hook"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join()


def anything(_headers: Mapping[str, str], _body: bytes) -> tuple[int, str]:
    """Take everything."""
    return 200, "ok"


def pagerduty(_headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """The Events API v2, by its published format: required fields, enumerations and limits.

    https://developer.pagerduty.com/docs/events-api-v2/trigger-events/
    """
    errors = ["'event' is larger than 512 KB"] if len(body) > 512 * 1024 else pagerduty_errors(json.loads(body))
    if errors:
        return 400, json.dumps({"status": "invalid event", "message": "Event object is invalid", "errors": errors})
    answer = {"status": "success", "message": "Event processed", "dedup_key": json.loads(body).get("dedup_key", "new")}
    return 202, json.dumps(answer)


PD_EVENT = {"routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images"}
PD_PAYLOAD = {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}


def pagerduty_errors(event: dict[str, Any]) -> list[str]:
    """What PagerDuty would find wrong with an event."""
    errors = [f"'{name}' is not expected" for name in event.keys() - PD_EVENT]
    if not re.fullmatch(r"[A-Za-z0-9]{32}", event.get("routing_key", "")):
        errors.append("'routing_key' is invalid")
    action = event.get("event_action")
    if action not in {"trigger", "acknowledge", "resolve"}:
        errors.append("'event_action' is invalid")
    if not 0 < len(event.get("dedup_key", "" if action != "trigger" else "new")) <= 255:
        errors.append("'dedup_key' is missing or too long")
    if action == "trigger":
        payload = event.get("payload", {})
        errors += [f"'payload.{name}' is not expected" for name in payload.keys() - PD_PAYLOAD]
        errors += [f"'payload.{name}' is missing or blank" for name in ("summary", "source") if not payload.get(name)]
        if len(payload.get("summary", "")) > 1024:
            errors.append("'payload.summary' is too long")
        if payload.get("severity") not in {"critical", "error", "warning", "info"}:
            errors.append("'payload.severity' is invalid")
        time = payload.get("timestamp")
        if time and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)", time):
            errors.append("'payload.timestamp' is invalid")
        errors += ["'links' without 'href'" for link in event.get("links", []) if "href" not in link]
    return errors


def slack(_headers: Mapping[str, str], body: bytes) -> tuple[int, str]:
    """An incoming webhook: the limits of the block kit reference."""
    message = json.loads(body)
    if not message.get("text") and not message.get("blocks"):
        return 400, "no_text"
    blocks = message.get("blocks", [])
    if len(message.get("text", "")) > 40_000 or len(blocks) > 50 or not all(map(_block_is_right, blocks)):
        return 400, "invalid_blocks"
    return 200, "ok"


def _block_is_right(block: dict[str, Any]) -> bool:
    if block["type"] == "header":
        return bool(block["text"]["type"] == "plain_text" and 0 < len(block["text"]["text"]) <= 150)
    fields = block.get("fields", [])
    right = all(one["type"] in {"mrkdwn", "plain_text"} and 0 < len(one["text"]) <= 2_000 for one in fields)
    text = block.get("text")
    right = right and (text is None or 0 < len(text["text"]) <= 3_000)
    return block["type"] == "section" and right and len(fields) <= 10 and bool(fields or text)


class Mailbox:
    """What a mail server has taken.

    Attributes:
        port: where it listens.
        ca_file: the certificate by which to know it.
        mails: the messages, with the recipients' addresses in ``X-RcptTo``.
        reject: replies that the next messages get instead, in order.
    """

    def __init__(self, port: int, ca_file: Path) -> None:
        self.port = port
        self.ca_file = ca_file
        self.mails: list[Message] = []
        self.reject: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - its name there
        """Take a message, or reject it."""
        from email import message_from_bytes, policy

        if self.reject:
            return self.reject.pop(0)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        mail["X-RcptTo"] = ", ".join(envelope.rcpt_tos)
        mail["X-TLS"] = str(session.ssl is not None)
        self.mails.append(mail)
        return "250 OK"


@contextmanager
def mail_server(folder: Path, login: tuple[str, str] | None = None) -> Iterator[Mailbox]:
    """A running SMTP server that insists on STARTTLS, and on a login where one is given."""
    authority = trustme.CA()
    ca_file = folder / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    mailbox = Mailbox(free_port(), ca_file)

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, given: Any) -> AuthResult:
        right = login is not None and (given.login.decode(), given.password.decode()) == login
        return AuthResult(success=right, handled=right)

    controller = _Controller(mailbox, HOST, mailbox.port, ready_timeout=90.0)
    controller.context = _context(authority)
    # Its LOGIN asks in words that Alertmanager does not know.
    more = {"auth_required": True, "authenticator": authenticate, "auth_exclude_mechanism": ["LOGIN"]}
    controller.more = more if login else {}
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()


def _context(authority: trustme.CA) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(HOST, "localhost").configure_cert(context)
    return context


class _Controller(Controller):
    context: ssl.SSLContext
    more: dict[str, Any]

    def factory(self) -> SMTP:
        return SMTP(self.handler, require_starttls=True, tls_context=self.context, hostname="localhost", **self.more)
