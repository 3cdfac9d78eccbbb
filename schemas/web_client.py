"""HTTP requests to servers that settings name: logins in addresses, redirects, and errors without secrets.

A login that stands in an address (``https://user:password@host``, percent-encoded) is sent as basic authentication. A
redirect to another origin (scheme, host or port) receives none of a request's own headers: a server that redirects a
request must not learn its password. A request with a body never follows a redirect.
"""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.schemas.redaction import error_text, revealed, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import SecretStr

PORTS = {"http": 80, "https": 443}
ANYWHERE = frozenset({"accept", "accept-encoding", "user-agent"})
"""Headers that a redirect may take to another origin."""


class Unanswered(FunnelwatchError, OSError):  # noqa: N818 - what happened, in the words of the message
    """A server gave no HTTP response; the message has no secrets."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A response of a server, of any status."""

    status: int
    body: bytes
    headers: Mapping[str, str]


def without_login(url: str | SecretStr) -> tuple[str, dict[str, str]]:
    """An address without its login, and the header that stands for the login, if there is one.

    Raises:
        ValueError: the address is not http or https; the message has no secrets.
    """
    text = revealed(url)
    wrong = f"{shown(text) or 'an empty text'} is not a web address; right would be https://host:port/path"
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises where it is not a number
    except ValueError:
        raise ValueError(wrong) from None
    login, _, host = parts.netloc.rpartition("@")
    if parts.scheme not in PORTS or not parts.hostname or (not login and "@" in parts.path):
        raise ValueError(wrong)
    headers = {}
    if login:
        user, _, password = login.partition(":")
        plain = f"{unquote(user)}:{unquote(password)}".encode()
        headers["Authorization"] = "Basic " + base64.b64encode(plain).decode()
    return urlunsplit((parts.scheme, host, parts.path, parts.query, "")), headers


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of an address.

    Raises:
        ValueError: the port is not a number.
    """
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or PORTS.get(parts.scheme, 0)


class CarefulRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects of GET within http and https; to another origin without the request's own headers."""

    def redirect_request(  # noqa: PLR0917 - the base class has these parameters
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The next request; None: the redirect itself is the response."""
        target = urljoin(req.full_url, newurl)
        try:
            there = origin(target)
        except ValueError:
            return None
        if req.get_method() not in {"GET", "HEAD"} or there[0] not in PORTS or "@" in urlsplit(target).netloc:
            return None
        following = super().redirect_request(req, fp, code, msg, headers, target)
        if following is not None and there != origin(req.full_url):
            for kept in (following.headers, following.unredirected_hdrs):
                for name in [name for name in kept if name.lower() not in ANYWHERE]:
                    del kept[name]
        return following


_OPENER = urllib.request.build_opener(CarefulRedirects)


@contextmanager
def opened(
    url: str | SecretStr, *, timeout_s: float, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Iterator[Any]:
    """The response of a server to a GET, or with a body to a POST; ``timeout_s`` bounds each wait for the network, s.

    Raises:
        Unanswered: there is no response.
        ValueError: the address is not http or https.
    """
    bare, login = without_login(url)
    # urllib would not send the login along itself.
    request = urllib.request.Request(bare, body, {**login, **(headers or {})})  # noqa: S310 - checked: http or https
    try:
        with _answer(request, timeout_s) as answer:
            yield answer
    except Unanswered:
        raise
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        text = error_text(reason) if isinstance(reason, Exception) else str(reason)
        raise Unanswered(f"{shown(url)} does not answer: {text}") from None


def _answer(request: urllib.request.Request, timeout_s: float) -> Any:
    """The response, an error status included."""
    try:
        return _OPENER.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        return error


def ask(
    url: str | SecretStr,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    most_bytes: int = -1,
) -> Reply:
    """The whole response to a GET, or with a body to a POST, of any status.

    Args:
        url: http or https; a login in it is sent as basic authentication.
        timeout_s: for each wait for the network, s.
        headers: more headers.
        body: what to post.
        most_bytes: bytes of the response that are read, at most; -1: all.

    Raises:
        Unanswered: there is no response.
        ValueError: the address is not http or https.
    """
    with opened(url, timeout_s=timeout_s, headers=headers, body=body) as answer:
        return Reply(answer.status, answer.read(most_bytes), dict(answer.headers.items()))
