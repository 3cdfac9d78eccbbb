"""Mail over SMTP, with STARTTLS unless the file says otherwise."""

from __future__ import annotations

import smtplib
import ssl
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path  # noqa: TC003 - pydantic looks at it
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from schemas.redaction import revealed
from sinks.alerts.answer import Answer, Outcome
from sinks.alerts.kind import Kind, Secret, listed
from sinks.alerts.texts import cut, details, headline, link, summary

if TYPE_CHECKING:
    from collections.abc import Mapping

SUBJECT_CHARACTERS = 200
PERMANENT = 500
"""SMTP reply codes from here on (RFC 5321, 4.2.1) say that the same again would be refused again."""


def _mailbox(value: str) -> str:
    if "@" not in parseaddr(value)[1] or "\n" in value:
        raise ValueError("is no address of a mailbox")
    return value


Mailbox = Annotated[str, AfterValidator(_mailbox)]


class Email(Kind):
    """Some people's mailboxes."""

    kind: Literal["email"]
    host: str = Field(min_length=1, description="the mail server, such as smtp.example.com")
    port: int = Field(587, ge=1, le=65_535, description="its port, 1 to 65535")
    tls: Literal["starttls", "tls", "none"] = Field("starttls", description="starttls, tls or none")
    ca_file: Path | None = Field(None, description="a file of certificates to trust instead of the system's")
    username: str = Field("", description="a user's name, where the server wants one")
    password: Secret = Field(SecretStr(""), description="their password, such as ${SMTP_PASSWORD}")
    sender: Mailbox = Field(alias="from", description="an address such as funnelwatch@example.com")
    to: Annotated[list[Mailbox], BeforeValidator(listed)] = Field(
        min_length=1, description="an address such as on-call@example.com, or a list of them"
    )

    @model_validator(mode="after")
    def _no_password_in_the_clear(self) -> Self:
        if self.username and self.tls == "none":
            raise ValueError("tls: is none, and the password would be sent in the clear")
        return self

    def deliver(self, alert: Mapping[str, Any], previous: Mapping[str, Any] | None, now_ms: int) -> Answer:
        """See the base. A message that is sent twice has the same Message-ID, by which mail programs show it once."""
        message = self.message(alert, now_ms)
        try:
            with self._session() as session:
                if self.username:
                    session.login(self.username, revealed(self.password))
                refused = session.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            return _of_codes(error.recipients)
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as error:
            text = f"{error.smtp_code} {_text(error.smtp_error)}"
            return Answer(Outcome.REFUSED if error.smtp_code >= PERMANENT else Outcome.LATER, text)
        except (smtplib.SMTPException, OSError) as error:
            return Answer(Outcome.LATER, f"{type(error).__name__}: {error}")
        if refused:
            return Answer(Outcome.SENT, f"accepted, but not for {_of_codes(refused).text}")
        return Answer(Outcome.SENT, "250 accepted")

    def message(self, alert: Mapping[str, Any], now_ms: int) -> EmailMessage:
        """The mail; all mails about one alert are one thread."""
        message = EmailMessage()
        message["Subject"] = cut(headline(alert), SUBJECT_CHARACTERS)
        message["From"] = self.sender
        message["To"] = ", ".join(self.to)
        message["Date"] = format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))
        domain = parseaddr(self.sender)[1].rpartition("@")[2]
        thread = f"<{alert['alert_id']}.{self.name}@{domain}>"
        message["Message-ID"] = f"<{alert['alert_id']}.{alert['sequence']}.{self.name}@{domain}>"
        message["In-Reply-To"] = thread
        message["References"] = thread
        message["Auto-Submitted"] = "auto-generated"
        lines = [summary(alert), alert["annotations"].get("look_first", ""), link(alert)]
        table = [f"{name + ':':<18}{value}" for name, value in details(alert).items()]
        message.set_content("\n\n".join(filter(None, [*lines, "\n".join(table)])) + "\n")
        return message

    def _session(self) -> smtplib.SMTP:
        context = ssl.create_default_context(cafile=self.ca_file and str(self.ca_file))
        if self.tls == "tls":
            return smtplib.SMTP_SSL(self.host, self.port, timeout=self.timeout, context=context)
        session = smtplib.SMTP(self.host, self.port, timeout=self.timeout)
        if self.tls == "starttls":
            try:
                session.starttls(context=context)
            except BaseException:
                session.close()
                raise
        return session


def _of_codes(recipients: Mapping[str, tuple[int, bytes]]) -> Answer:
    """One answer for recipients of whom each was refused for a reason of its own; later if any may still take it."""
    text = "; ".join(f"{name}: {code} {_text(said)}" for name, (code, said) in recipients.items())
    final = all(code >= PERMANENT for code, _ in recipients.values())
    return Answer(Outcome.REFUSED if final else Outcome.LATER, text)


def _text(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
