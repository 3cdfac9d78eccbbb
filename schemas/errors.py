"""The base of every error that funnelwatch raises."""

from __future__ import annotations


class FunnelwatchError(Exception):
    """The base: ``except FunnelwatchError`` catches every error of funnelwatch, and none of its libraries.

    docs/errors.md draws the tree.
    """
