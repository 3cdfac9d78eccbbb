"""Tests of this folder start no process."""

from tests.no_process import _no_process

__all__ = ["_no_process"]
