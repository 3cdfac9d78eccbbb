"""Errors of the embedded stack, in words for the person who started it."""

from __future__ import annotations

from funnelwatch.schemas.errors import FunnelwatchError


class StackError(FunnelwatchError):
    """The stack cannot start or stop; the message names the service, the error and the remedy."""


class UnusableError(StackError):
    """A program cannot be used on this machine (missing, too old, not downloadable); another may take its place."""


class PortTakenError(StackError):
    """Another program took the port between the choice and the start; another port may work."""


class CancelledError(StackError):
    """Another part of the same start failed or was interrupted, so this one gave up."""
