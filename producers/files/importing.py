"""Files to events, with an account of every line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.files.mapper import Rejected
from funnelwatch.producers.files.rows import NO_UTF8, Row, has_foreign_bytes, open_input
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.events import fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLES = 3
"""Of each reason, so many rejected lines are shown."""

_encode = Encoder("FunnelEvent")

ToEvents = Callable[[Mapping[str, Any], int], list[dict[str, Any]]]
"""Makes the events of a row and its line number; raises ``Rejected``."""


@dataclass(slots=True)
class Account:
    """What became of the lines.

    Attributes:
        lines: rows read.
        events: events made.
        nothing: rows that make no event, and should not.
        rejected: rejected rows by reason.
        examples: the first rejected rows of each reason, as ``file:line: fault``.
        read_bytes: bytes read of the files on disk.
        notes: what a person should know of files of which nothing was rejected, such as that one is empty.
    """

    lines: int = 0
    events: int = 0
    nothing: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    read_bytes: int = 0
    notes: list[str] = field(default_factory=list)

    def reject(self, place: str, rejected: Rejected) -> None:
        """Note a rejected row."""
        self.rejected[rejected.reason] += 1
        examples = self.examples.setdefault(rejected.reason, [])
        if len(examples) < EXAMPLES:
            examples.append(f"{place}: {rejected.detail[:200]}")


def events_of(paths: Sequence[str], to_events: ToEvents, account: Account) -> Iterator[dict[str, Any]]:
    """The events of files, one after the other; what is rejected is in the account, and stops nothing.

    Args:
        paths: files; ``-`` is stdin.
        to_events: makes the events of a row; raises ``Rejected``.
        account: counts while the events are taken.

    Raises:
        UnreadableFile: a file cannot be opened, or not be read to its end.
    """
    before = 0
    for path in paths:
        with open_input(path) as file:
            for row in file.rows():
                account.lines += 1
                account.read_bytes = before + file.read_bytes
                try:
                    events = _checked(row, to_events)
                except Rejected as rejected:
                    account.reject(f"{file.name}:{row.line}", rejected)
                    continue
                account.nothing += not events
                account.events += len(events)
                yield from events
            before += file.read_bytes
            if file.note:
                account.notes.append(file.note)


def _checked(row: Row, to_events: ToEvents) -> list[dict[str, Any]]:
    """The events of a row, none of which the encoder or the stream would reject.

    Raises:
        Rejected: the row is none, makes none, or makes one that cannot be.
    """
    if row.values is None:
        raise row.rejected or Rejected("NO_ROW", "is empty")
    events = to_events(row.values, row.line)
    for event in events:
        try:
            _encode(event)  # the quickest full check of types there is
        except ValueError as error:
            hint = f"; the file is not UTF-8; {NO_UTF8}" if has_foreign_bytes(row.values) else ""
            raise Rejected("BAD_FIELD", f"{error}{hint}") from error
        if wrong := fault(event):
            raise Rejected("BAD_FIELD", wrong)
    return events
