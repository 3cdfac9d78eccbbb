"""Mail over SMTP, with STARTTLS by default."""

from __future__ import annotations

import contextlib
import re
import smtplib
import socket
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from functools import cache
from pathlib import Path  # noqa: TC003 - pydantic looks at it
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from funnelwatch.schemas.plain_values import Line, Whole
from funnelwatch.schemas.redaction import redacted, revealed
from funnelwatch.schemas.texts import cut
from funnelwatch.sinks.alerts.bound import Bound
from funnelwatch.sinks.alerts.delivery import SHOWN, DeliveryResult, Outcome, no_answer
from funnelwatch.sinks.alerts.receiver import Filter, Receiver, Secret, Span
from funnelwatch.sinks.alerts.texts import annotation, details, headline, link, summary

if TYPE_CHECKING:
    import ssl
    from collections.abc import Mapping

SUBJECT_CHARACTERS = 200
ID_CHARACTERS = 300
QUIT_S = 1.0
"""Longest time for a server that has the message to answer QUIT, s."""
OWN_NAME_S = 2.0
READY = 220
PERMANENT = 500
"""SMTP reply codes from here on are permanent (RFC 5321, 4.2.1): the server would reject the same message again."""


def _mailbox(value: str) -> str:
    local, _, domain = parseaddr(value)[1].rpartition("@")
    if not local or not domain or not value.isprintable() or " " in local + domain:
        raise ValueError("is no address of a mailbox")
    return value


def _file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("is no file that can be read here")
    return path


def _port(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


Port = Annotated[Whole, BeforeValidator(_port)]
"""A whole number, or its text, which an environment variable gives."""

Mailbox = Annotated[str, AfterValidator(_mailbox)]


class Email(Receiver):
    """One or more mailboxes."""

    kind: Literal["email"]
    host: Line = Field(description="the mail server, such as smtp.example.com")
    port: Port = Field(587, ge=1, le=65_535, description="its port, 1 to 65535")
    tls: Literal["starttls", "tls", "none"] = Field("starttls", description="starttls, tls or none")
    ca_file: Annotated[Path, AfterValidator(_file)] | None = Field(
        None, description="a file of certificates to trust instead of the system's"
    )
    username: Line = Field("", description="a user's name, where the server wants one")
    password: Secret = Field(SecretStr(""), description="their password, such as ${SMTP_PASSWORD}")
    sender: Mailbox = Field(alias="from", description="an address such as funnelwatch@example.com")
    to: Annotated[list[Mailbox], *Filter] = Field(
        description="an address such as on-call@example.com, or a list of them"
    )

    timeout: Span = Field(
        120.0, gt=0, le=300, description="a span such as 2m, at most 5m: for a whole delivery; mail servers are slow"
    )

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        if self.username and self.tls == "none":
            raise ValueError("tls: is none, and the password would be sent in the clear")
        if bool(self.username) != bool(self.password):
            missing = "username" if self.password else "password"
            raise ValueError(f"{missing}: is missing; each needs the other")
        if self.ca_file and self.tls == "none":
            raise ValueError("ca_file: does nothing where tls is none")
        return self

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> DeliveryResult:
        """See the base. A repeated message has the same Message-ID, so that mail programs show it once."""
        message = self.message(alert, now_ms)
        bound = Bound(self.timeout)
        session: _Session | None = None
        try:
            session = self._session(bound)
            if self.username:
                session.login(self.username, revealed(self.password))
            rejected = session.send_message(message)
            session.leave()
        except smtplib.SMTPRecipientsRefused as error:
            return _of_codes(error.recipients)
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            text = f"{error.smtp_code} {_text(error.smtp_error)}"
            return DeliveryResult(Outcome.REJECTED if error.smtp_code >= PERMANENT else Outcome.LATER, text)
        except (smtplib.SMTPException, OSError) as error:
            return no_answer(error, bound)
        finally:
            if session is not None:
                session.close()
        if rejected:
            return DeliveryResult(Outcome.SENT, f"accepted, but not for {_of_codes(rejected).text}")
        return DeliveryResult(Outcome.SENT, "250 accepted")

    def message(self, alert: Mapping[str, Any], now_ms: int) -> EmailMessage:
        """The mail; all mails about one alert form one thread."""
        message = EmailMessage()
        message["Subject"] = cut(headline(alert), SUBJECT_CHARACTERS)
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Date"] = format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
        domain = parseaddr(self.sender)[1].rpartition("@")[2]
        alert_id = re.sub(r"[^A-Za-z0-9._-]", "_", alert["alert_id"])[:ID_CHARACTERS]
        thread = f"<{alert_id}.{self.name}@{domain}>"
        message["Message-ID"] = f"<{alert_id}.{alert['sequence']}.{self.name}@{domain}>"
        message["In-Reply-To"] = thread
        message["References"] = thread
        message["Auto-Submitted"] = "auto-generated"
        lines = [summary(alert), annotation(alert, "look_first"), link(alert)]
        table = [f"{name + ':':<18}{value}" for name, value in details(alert).items()]
        message.set_content("\n\n".join(filter(None, [*lines, "\n".join(table)])) + "\n")
        return message

    def _session(self, bound: Bound) -> _Session:
        context = bound.tls(str(self.ca_file) if self.ca_file else None) if self.tls != "none" else None
        session = _Session(bound, context if self.tls == "tls" else None)
        try:
            session.begin(self.host, self.port)
            if self.tls == "starttls":
                session.starttls(context=context)
        except BaseException:
            session.close()
            raise
        return session


class _Session(smtplib.SMTP):
    """A session within the bound of a delivery; notes when the whole message has left."""

    def __init__(self, bound: Bound, context: ssl.SSLContext | None) -> None:
        super().__init__(local_hostname=_own_name())
        self._bound = bound
        self._context = context

    def begin(self, host: str, port: int) -> None:
        """Connect, and wait for the server's greeting.

        Raises:
            smtplib.SMTPConnectError: it is no greeting.
        """
        code, reply = self.connect(host, port)
        if code != READY:
            raise smtplib.SMTPConnectError(code, reply)

    def _get_socket(self, host: str, port: int, _timeout: float) -> socket.socket:
        sock = self._bound.connect((host, port))
        self._host = host  # the name that the certificate must have
        if self._context is None:
            return sock
        try:
            return self._context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def send(self, s: Any) -> None:
        """See the base. Only a message ends with a line of one dot; no command does."""
        super().send(s)
        end = b"\r\n.\r\n" if isinstance(s, bytes) else "\r\n.\r\n"
        self._bound.is_sent = self._bound.is_sent or s.endswith(end)

    def leave(self) -> None:
        """End the session; the server has the message, whatever it answers."""
        self._bound.shorten(QUIT_S)
        with contextlib.suppress(smtplib.SMTPException, OSError):
            self.quit()


@cache
def _own_name() -> str:
    """The name with which this machine greets a server; an address where the name does not resolve soon."""
    name = socket.gethostname()
    if "." not in name:
        try:
            name = Bound(OWN_NAME_S).resolve(name, 0)[0][4][0]
        except OSError:
            name = "127.0.0.1"
        name = f"[IPv6:{name}]" if ":" in name else f"[{name}]"
    return re.sub(r"[^A-Za-z0-9.:_\[\]-]", "-", name)


def _of_codes(recipients: Mapping[str, tuple[int, bytes]]) -> DeliveryResult:
    """One result for rejected recipients, each with a reason of its own; ``LATER`` if one may still be accepted."""
    text = "; ".join(f"{name}: {code} {_text(reply)}" for name, (code, reply) in recipients.items())
    final = all(code >= PERMANENT for code, _ in recipients.values())
    return DeliveryResult(Outcome.REJECTED if final else Outcome.LATER, redacted(text)[:SHOWN])


def _text(reply: bytes | str) -> str:
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
