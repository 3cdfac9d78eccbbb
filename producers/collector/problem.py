"""What is said to a sender whose request is not taken."""

from __future__ import annotations

import json
from http import HTTPStatus
from math import ceil
from typing import Any

from starlette.responses import JSONResponse

from funnelwatch.schemas.errors import FunnelwatchError

LONGEST_DETAIL = 2_000
"""Characters of a detail: it quotes what a sender sent."""


class AsciiJson(JSONResponse):
    """JSON in ASCII: what a sender gave as the name of a field may be what UTF-8 cannot hold."""

    def render(self, content: Any) -> bytes:
        """The body."""
        return json.dumps(content, separators=(",", ":")).encode("ascii")


class Problem(FunnelwatchError):  # noqa: N818 - the term of RFC 9457
    """The request is not taken.

    Args:
        status: of HTTP.
        detail: what is wrong and what would be right.
        retry_after_s: when to try again, in seconds; None: not at all as it is.
        close: whether the connection ends with the answer, because the rest of the request is not read.
        headers: more of them.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        retry_after_s: float | None = None,
        close: bool = False,
        headers: dict[str, str] | None = None,
    ) -> None:
        detail = detail if len(detail) <= LONGEST_DETAIL else f"{detail[:LONGEST_DETAIL]}…"
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["Retry-After"] = str(max(1, ceil(retry_after_s)))
        if close:
            self.headers["Connection"] = "close"

    def response(self) -> AsciiJson:
        """As problem details (RFC 9457)."""
        content = {"title": HTTPStatus(self.status).phrase, "status": self.status, "detail": self.detail}
        return AsciiJson(content, self.status, self.headers, "application/problem+json")
