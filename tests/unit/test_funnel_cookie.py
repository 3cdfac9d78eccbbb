"""The middleware's cookie: its attributes, and what is believed of it."""

from __future__ import annotations

from typing import Any

import pytest

from funnelwatch import FunnelCookie
from funnelwatch.testing import MemoryProducer
from tests.middleware import answers, asgi, wsgi

FORWARDED = {"x-forwarded-proto": "https, http"}


@pytest.fixture(params=[wsgi, asgi])
def server(request: pytest.FixtureRequest) -> Any:
    """Both ways, one after the other."""
    return request.param


def set_cookie(server: Any, cookie: FunnelCookie, **asked: Any) -> str:
    """The Set-Cookie header of an impression."""
    _, headers = server(MemoryProducer(), answers("200 OK"), cookie=cookie)("GET", "/sign-up/code", **asked)
    return str(headers["Set-Cookie"])


@pytest.mark.parametrize(
    ("cookie", "asked", "secure"),
    [
        (FunnelCookie(), {}, False),
        (FunnelCookie(), {"https": True}, True),
        (FunnelCookie(), {"headers": FORWARDED}, False),
        (FunnelCookie(trust_forwarded_proto=True), {"headers": FORWARDED}, True),
        (FunnelCookie(trust_forwarded_proto=True), {"headers": {"x-forwarded-proto": "http"}, "https": True}, False),
        (FunnelCookie(trust_forwarded_proto=True), {"https": True}, True),
        (FunnelCookie(secure=True), {}, True),
        (FunnelCookie(secure=False), {"https": True}, False),
        (FunnelCookie(same_site="None"), {}, True),
    ],
    ids=["http", "https", "not-trusted", "trusted", "trusted-http", "no-header", "always", "never", "none-needs-it"],
)
def test_the_cookie_is_secure_where_the_request_came_by_https(
    server: Any, cookie: FunnelCookie, asked: dict[str, Any], secure: bool
) -> None:
    """A header that anybody can send is believed only on request."""
    assert set_cookie(server, cookie, **asked).endswith("; Secure") == secure


def test_name_path_age_and_same_site_are_set(server: Any) -> None:
    """Each as given."""
    header = set_cookie(server, FunnelCookie(name="fs", path="/sign-up", max_age=60, same_site="Strict"))
    assert header.startswith("fs=")
    assert header.endswith("; Path=/sign-up; Max-Age=60; HttpOnly; SameSite=Strict")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": "a;b"}, "name: 'a;b' is no name of a cookie"),
        ({"path": "/a; Domain=x"}, "path: '/a; Domain=x' is no path"),
        ({"path": "sign-up"}, "path: 'sign-up' is no path"),
        ({"max_age": 0}, "max_age: 0 is not above 0"),
        ({"same_site": "lax"}, "same_site: 'lax' is not one of Lax, Strict, None"),
        ({"same_site": "None", "secure": False}, 'secure: False with same_site "None"'),
    ],
)
def test_a_cookie_that_browsers_reject_is_rejected_at_once(fields: dict[str, Any], message: str) -> None:
    """The message names the argument."""
    with pytest.raises(ValueError, match=f"^{message}"):
        FunnelCookie(**fields)


@pytest.mark.parametrize("value", ["a b", '"a\\073 Domain=x"', "ä", "x" * 101])
def test_an_id_that_we_did_not_give_begins_a_new_session(server: Any, value: str) -> None:
    """So nothing that a browser sends comes back as part of a header."""
    kept = MemoryProducer()
    _, headers = server(kept, answers("200 OK"))("GET", "/sign-up/code", f"funnel_session={value}")
    assert "Domain" not in headers["Set-Cookie"]
    assert value not in kept.events[0].sign_up_session_id
