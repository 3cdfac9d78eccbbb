"""Converts files to events, and accounts for every line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from funnelwatch.producers.files.mapper import Rejected
from funnelwatch.producers.files.rows import NO_UTF8, Row, has_foreign_bytes, open_input
from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.events import event_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EXAMPLES = 3
"""Rejected lines that are shown for each reason."""

_encode = Encoder("FunnelEvent")

ToEvents = Callable[[Mapping[str, Any], int], list[dict[str, Any]]]
"""Converts a row and its line number to events; raises ``Rejected``."""


@dataclass(slots=True)
class Account:
    """The outcome of each line.

    Attributes:
        lines: rows read.
        events: events of the rows.
        nothing: rows that correctly have no event.
        rejected: rejected rows by reason.
        examples: the first rejected rows of each reason, as ``file:line: error``.
        read_bytes: bytes read of the files on disk.
        notes: remarks about files without rejected rows, such as that one is empty.
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
    """The events of files, one after the other; rejected rows are accounted for, and the rest goes on.

    Args:
        paths: files; ``-`` is stdin.
        to_events: converts a row to events; raises ``Rejected``.
        account: updated while the events are consumed.

    Raises:
        UnreadableFile: a file cannot be opened, or cannot be read to its end.
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
    """The events of a row; neither the encoder nor the stream rejects one of them.

    Raises:
        Rejected: the row is invalid, or has an invalid event or none.
    """
    if row.values is None:
        raise row.rejected or Rejected("NO_ROW", "is empty")
    events = to_events(row.values, row.line)
    for event in events:
        try:
            _encode(event)  # the fastest complete check of types
        except ValueError as error:
            hint = f"; the file is not UTF-8; {NO_UTF8}" if has_foreign_bytes(row.values) else ""
            raise Rejected("BAD_FIELD", f"{error}{hint}") from error
        if wrong := event_error(event):
            raise Rejected("BAD_FIELD", wrong)
    return events
