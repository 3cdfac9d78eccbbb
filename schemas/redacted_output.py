"""Keeps secrets out of this process's log and of the tracebacks that it prints.

A log record is cleaned when it is created, so that every handler and formatter receives a clean one.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.redaction import redacted

if TYPE_CHECKING:
    from types import TracebackType


class RedactedRecord(logging.LogRecord):
    """A log record whose message and traceback have no secrets."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if isinstance(self.exc_info, tuple) and self.exc_info[1] is not None:
            self.exc_text = formatted(self.exc_info[1])
        if self.stack_info:
            self.stack_info = redacted(self.stack_info)

    def getMessage(self) -> str:  # noqa: N802 - the base class names it so
        """The message, with its arguments."""
        return redacted(super().getMessage())


def formatted(error: BaseException) -> str:
    """The traceback of an error, as Python prints it, without secrets."""
    return redacted("".join(traceback.format_exception(error)).rstrip())


def install() -> None:
    """Clean every log record and every traceback that this process prints from now on."""
    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _print_uncaught
    threading.excepthook = _print_uncaught_in_thread


def _print_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    print(formatted(error), file=sys.stderr)


def _print_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or isinstance(args.exc_value, SystemExit) or sys.stderr is None:
        return
    name = args.thread.name if args.thread is not None else "?"
    print(f"Exception in thread {name}:\n{formatted(args.exc_value)}", file=sys.stderr)
