"""Something that goes on while a test does something else."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def repeating(action: Callable[[], object], every_s: float) -> Iterator[None]:
    """Do something again and again on a thread of its own while the block runs, with a pause before each."""
    over = threading.Event()

    def go() -> None:
        while not over.wait(every_s):
            action()

    thread = threading.Thread(target=go)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
