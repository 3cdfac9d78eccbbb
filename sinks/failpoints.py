"""Failpoints: named places where a drill can make a worker die or freeze, instead of waiting for luck.

They do nothing, and cost one call of an empty function, unless the environment variable ``FUNNELWATCH_FAILPOINTS``
names a folder when the worker starts. Then a worker that comes to one looks there for a file ``kill.POINT`` or
``stop.POINT``: it renames it, so that of several workers one takes it, and sends itself SIGKILL or SIGSTOP.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

VARIABLE = "FUNNELWATCH_FAILPOINTS"

POINTS = {
    "assigned": "partitions are assigned and their places are known, nothing of them is fetched",
    "validated": "a batch is validated, none of its dead letters is sent",
    "dead_letters_sent": "the dead letters of a fetch are sent, its counts are not written",
    "uncommitted": "counts and progress are written, the transaction is not committed",
    "committed": "the transaction is committed, Redis has not heard of it",
    "copied": "Redis has the totals, Kafka has not the offsets",
    "offsets_committed": "Kafka has the offsets",
    "closing": "windows are being closed, none is published",
    "windows_published": "closed windows are published, that is not recorded",
    "revision_claimed": "a late window has its next revision, which is not published",
    "revision_published": "a late window's revision is published, that is not recorded",
    "windows_evaluated": "closed windows are evaluated, nothing of it is saved",
    "alerts_saved": "alerts are in the outbox, not published",
    "alerts_published": "alerts are published, that is not recorded",
}
"""Each point, and what is done and what is not when a worker comes to it."""

ACTIONS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}

_folder = os.environ.get(VARIABLE)


def _pass(name: str) -> None:
    """Not in a drill."""


def _check(name: str) -> None:
    for action, number in ACTIONS.items():
        with contextlib.suppress(FileNotFoundError):
            Path(f"{_folder}/{action}.{name}").rename(f"{_folder}/done.{action}.{name}.{os.getpid()}")
            os.kill(os.getpid(), number)


failpoint = _check if _folder else _pass
"""Come to a failpoint; its name is a key of ``POINTS``."""
