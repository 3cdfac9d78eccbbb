"""Rate limits: a token bucket per sender."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

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
