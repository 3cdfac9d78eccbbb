"""Authenticates requests and applies rate limits."""

from __future__ import annotations

import base64
import binascii
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.producers.collector.keys import ApiKey, Keys
from funnelwatch.producers.http.problem import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from funnelwatch.producers.collector.metrics import CollectorMetrics
    from funnelwatch.schemas.settings import Settings

ANYBODY = ApiKey.model_construct(name="anybody", sha256="")
"""The key of every request where no keys are configured."""

BYTES_OF_AN_EVENT = 1_000
"""Before parsing, a body counts as one event for so many bytes: the number of events is not known yet."""

HOW = "right would be the header 'Authorization: Bearer KEY', or ?key=KEY"


class Access:
    """Accepts requests, or rejects them with the reason.

    Args:
        settings: the limits and the origins.
        keys: the API keys.
        metrics: counts rejected requests.
    """

    def __init__(self, settings: Settings, keys: Keys, metrics: CollectorMetrics) -> None:
        self._keys = keys
        self._limited = metrics.limited
        self._by_key = RateLimit(settings.collector_key_rate)
        self._by_address = RateLimit(settings.collector_address_rate)
        self._origins = [origin.strip().rstrip("/") for origin in settings.collector_origins.split(",")]

    def enter(self, request: Request, use: str) -> ApiKey:
        """The API key of a request.

        Args:
            request: the request, whose body is not read yet.
            use: what it sends: "events" or "lines".

        Raises:
            Problem: too many requests from this address or events with this key (429), no valid key (401), a page or
                a use that the key does not allow (403).
        """
        address = request.client.host if request.client else "?"
        if wait_s := self._by_address.wait_s(address, 1, time.monotonic()):
            self._limited.labels("address").inc()
            raise Problem(429, f"too many requests from {address}", retry_after_s=wait_s, close=True)
        origin = request.headers.get("origin")
        if origin and "*" not in self._origins and origin not in self._origins:
            raise Problem(403, f"pages of {origin} may not send events: FUNNELWATCH_COLLECTOR_ORIGINS", close=True)
        if not self._keys.required:
            return ANYBODY
        given = secret(request)
        key = self._keys.find(given) if given else None
        if key is None:
            what = "the API key is not known" if given else "there is no API key"
            raise Problem(401, f"{what}; {HOW}", close=True, headers={"WWW-Authenticate": "Bearer"})
        if use not in key.use:
            raise Problem(403, f"the API key {key.name} is for {', '.join(key.use)}, not for {use}", close=True)
        if key.origins and origin not in key.origins:
            raise Problem(403, f"the API key {key.name} is not for {origin or 'requests without Origin'}", close=True)
        if wait_s := self._by_key.ask_s(key.name, time.monotonic()):
            raise self._too_many(key, wait_s, close=True)
        return key

    def charge_body(self, key: ApiKey, size: int) -> int:
        """Charge a body by its bytes before it is parsed: an invalid body costs work too.

        Returns:
            The events it was charged for.

        Raises:
            Problem: the key has sent too many events (429); the body is not parsed.
        """
        events = 1 + size // BYTES_OF_AN_EVENT
        if wait_s := self._by_key.wait_s(key.name, events, time.monotonic()):
            raise self._too_many(key, wait_s)
        return events

    def charge_events(self, key: ApiKey, events: int) -> None:
        """Charge the events of a body that exceed the charge by its bytes."""
        if events > 0:
            self._by_key.owe(key.name, events, time.monotonic())

    def _too_many(self, key: ApiKey, wait_s: float, *, close: bool = False) -> Problem:
        self._limited.labels("key").inc()
        return Problem(429, f"too many events with the API key {key.name}", retry_after_s=wait_s, close=close)


def secret(request: Request) -> str | None:
    """The API key in a request, in any form that clients use.

    Bearer and ``?key=`` are funnelwatch's (a beacon cannot set headers), Token is InfluxDB 2's, Basic and ``?p=`` are
    InfluxDB 1's, with the API key as the password.
    """
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    match scheme.lower():
        case "bearer" | "token":
            value = value.strip()
            return value.rpartition(":")[2] if scheme.lower() == "token" else value
        case "basic":
            try:
                return base64.b64decode(value, validate=True).decode().partition(":")[2] or None
            except (binascii.Error, UnicodeDecodeError):
                return None
    return first_parameter(request, "key") or first_parameter(request, "p")


def first_parameter(request: Request, name: str) -> str | None:
    """The first value of a query parameter, as InfluxDB reads it; None where there is none."""
    return next(iter(request.query_params.getlist(name)), None)


BURST_S = 4.0
"""Burst: a quiet sender may send at once what the rate allows in this many seconds."""

MOST_SENDERS = 50_000
"""Remembered senders; the longest silent one is forgotten first, and gets a full bucket again."""


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float


class RateLimit:
    """A rate limit for each sender.

    A request is taken while anything is left, whatever its size, and what it took too much is owed: a batch larger than
    the bucket is sent once, and then pauses its sender.

    Args:
        rate: tokens a second; 0 for no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._full = max(1.0, rate * BURST_S)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def ask_s(self, sender: str, now: float) -> float:
        """The seconds until a sender may send anything; 0: now. Nothing is taken."""
        bucket = self._buckets.get(sender)
        if not self._rate or bucket is None:
            return 0.0
        tokens = bucket.tokens + (now - bucket.at) * self._rate
        return max(0.0, (1.0 - tokens) / self._rate)

    def owe(self, sender: str, tokens: float, now: float) -> None:
        """Take ``tokens`` of a sender who was let in, there or not: the sender waits for them later."""
        bucket = self._buckets.get(sender)
        if self._rate and bucket is not None:
            bucket.tokens = min(self._full, bucket.tokens + (now - bucket.at) * self._rate) - tokens
            bucket.at = now

    def wait_s(self, sender: str, tokens: float, now: float) -> float:
        """Take ``tokens``; 0 where they were taken, else the seconds until anything is there, and nothing was taken.

        Args:
            sender: a name or an address.
            tokens: how many.
            now: a monotonic clock, in seconds.
        """
        if not self._rate:
            return 0.0
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = _Bucket(self._full, now)
            if len(self._buckets) > MOST_SENDERS:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(sender)
        bucket.tokens = min(self._full, bucket.tokens + (now - bucket.at) * self._rate)
        bucket.at = now
        if bucket.tokens < min(1.0, tokens):
            return (1.0 - bucket.tokens) / self._rate
        bucket.tokens -= tokens
        return 0.0
