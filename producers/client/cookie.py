"""``FunnelCookie``: the cookie by which middleware knows a session, and when its step was shown."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

OWN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
"""Ids that the middleware gives; another id in a cookie is not one of ours."""
TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
PATH: Final = re.compile(r"/[^;,\s]*")


class Known(NamedTuple):
    """A cookie's value: the session, empty where it is unknown, and when which step was shown, ms."""

    session_id: str = ""
    shown: str = ""

    def shown_at(self, step: str) -> int | None:
        """When a step was shown, ms; None where the cookie does not say."""
        shown_step, _, at = self.shown.rpartition(".")
        return int(at) if shown_step == quote(step, safe="") and at.isdecimal() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class FunnelCookie:
    """How the middleware's cookie is set. It is always HttpOnly.

    Attributes:
        name: its name.
        path: requests below this path send it back.
        max_age: how long the browser keeps it, in seconds.
        same_site: whether requests from other sites send it: "Lax" with links, "Strict" never, "None" always.
        secure: whether the browser sends it by https only; None: when the request that sets it came by https.
        trust_forwarded_proto: whether ``X-Forwarded-Proto`` says how a request came. Only behind a proxy that sets it.

    Raises:
        ValueError: browsers would reject such a cookie.
    """

    name: str = "funnel_session"
    path: str = "/"
    max_age: int = 86_400
    same_site: Literal["Lax", "Strict", "None"] = "Lax"
    secure: bool | None = None
    trust_forwarded_proto: bool = False

    def __post_init__(self) -> None:
        """Reject a cookie that browsers would reject."""
        if not TOKEN.fullmatch(self.name):
            raise ValueError(f"name: {self.name!r} is no name of a cookie; right would be like funnel_session")
        if not PATH.fullmatch(self.path):
            raise ValueError(f"path: {self.path!r} is no path; right would be like /")
        if self.max_age <= 0:
            raise ValueError(f"max_age: {self.max_age} is not above 0")
        if self.same_site not in ("Lax", "Strict", "None"):
            raise ValueError(f"same_site: {self.same_site!r} is not one of Lax, Strict, None")
        if self.same_site == "None" and self.secure is False:
            raise ValueError('secure: False with same_site "None", which browsers reject; right would be True')

    def read(self, header: str) -> Known:
        """The content of a request's Cookie header; empty where its signature is wrong."""
        cookies: SimpleCookie = SimpleCookie()
        with contextlib.suppress(CookieError):
            cookies.load(header)
        value = cookies[self.name].value if self.name in cookies else ""
        session_id, _, shown = value.partition(".")
        return Known(session_id if OWN_ID.fullmatch(session_id) else "", shown)

    def write(self, session_id: str, *, https: bool, shown: tuple[str, int] | None = None) -> str:
        """The value of a Set-Cookie header.

        Args:
            session_id: the session.
            https: whether the request came by https.
            shown: the step that was shown, and when, ms.
        """
        value = f"{session_id}.{quote(shown[0], safe='')}.{shown[1]}" if shown else session_id
        secure = "; Secure" if self.same_site == "None" or (https if self.secure is None else self.secure) else ""
        return (
            f"{self.name}={value}; Path={self.path}; Max-Age={self.max_age}; HttpOnly; "
            f"SameSite={self.same_site}{secure}"
        )
