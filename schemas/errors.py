"""The base of every error that funnelwatch raises, and of those about files that people write."""

from __future__ import annotations


class FunnelwatchError(Exception):
    """The base: ``except FunnelwatchError`` catches every error of funnelwatch, and none of its libraries.

    docs/errors.md draws the tree.
    """


class FileError(FunnelwatchError, ValueError):
    """A file that a person wrote is rejected.

    Each line of the message is ``file:line: field: what is wrong; right would be …``.
    """
