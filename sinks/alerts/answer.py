"""What came of trying to deliver one message, and how a lane sends over HTTP."""

from __future__ import annotations

import email.utils
import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from schemas.redaction import redacted, revealed
from schemas.web_client import without_login

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import SecretStr

READ_BYTES = 10_000
"""Of an answer this much is read: it is for a person, in the log."""

SHOWN = 300


class Outcome(StrEnum):
    """What is to be done with a message after an attempt."""

    SENT = "sent"
    REFUSED = "refused"
    """The other side says that the message itself is wrong: to send it again would change nothing."""
    LATER = "later"
    """The route is of no use now: outage, too many requests, wrong credentials."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of an attempt, what the other side said, and after how many seconds it wants to be asked again."""

    outcome: Outcome
    text: str
    retry_after_s: float | None = None

    def __post_init__(self) -> None:
        """No answer shows a secret, whatever the other side repeats: it is logged, stored and printed."""
        object.__setattr__(self, "text", redacted(self.text))


OF_THE_MESSAGE = frozenset({400, 413, 422})
"""HTTP statuses by which the message is to blame. Others, such as 401 or 404, blame the route: a person mends it."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is answered with a redirect would be sent on as a GET, and the message be lost."""

    def redirect_request(self, *_: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def post_json(url: str | SecretStr, body: Any, timeout_s: float, headers: Mapping[str, str] | None = None) -> Answer:
    """POST a JSON document; see ``post``."""
    return post(url, json.dumps(body, separators=(",", ":")).encode(), timeout_s, headers)


def post(url: str | SecretStr, body: bytes, timeout_s: float, headers: Mapping[str, str] | None = None) -> Answer:
    """POST a body, JSON unless the headers say otherwise; never raises for what the other side does.

    Args:
        url: http or https, checked when the routes were read; a login in it is sent as basic authentication.
        body: what to send.
        timeout_s: for connecting, and for each read, s.
        headers: more headers.
    """
    try:
        bare, login = without_login(revealed(url))
        sent = {"Content-Type": "application/json", "User-Agent": "funnelwatch-notify", **login, **(headers or {})}
        request = urllib.request.Request(bare, body, sent, method="POST")  # noqa: S310 - checked: http or https
        with _OPENER.open(request, timeout=timeout_s) as response:
            return Answer(Outcome.SENT, _said(response.status, response.read(READ_BYTES)))
    except urllib.error.HTTPError as error:
        with error:
            text = _said(error.code, _rest(error))
            wait_s = retry_after(error.headers.get("Retry-After"), time.time())
        return Answer(Outcome.REFUSED if error.code in OF_THE_MESSAGE else Outcome.LATER, text, wait_s)
    except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
        return Answer(Outcome.LATER, f"{type(error).__name__}: {error}")


def retry_after(value: str | None, now_s: float) -> float | None:
    """The seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3: seconds or a date); None: nothing."""
    if value is None:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - now_s)
    except ValueError:
        return None


def _said(status: int, body: bytes) -> str:
    return f"{status} {' '.join(body.decode(errors='replace').split())[:SHOWN]}".strip()


def _rest(error: urllib.error.HTTPError) -> bytes:
    try:
        return error.read(READ_BYTES)
    except (OSError, http.client.HTTPException):
        return b""
