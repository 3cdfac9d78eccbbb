"""Closed windows: the series that one shows, and its records in the windows topic, in parts when it is large."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from funnelwatch.schemas.counts import ClosedWindow, CountRow, Series
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NOTHING = CountRow()

SERIES_IN_A_PART = 5_000
"""About 420 kB with names of ordinary length."""

BYTES_IN_A_PART = 700_000
"""Well below the megabyte that Kafka takes by default."""

NUMBERS = 60
"""Bytes of the counts of a series, as varints, and of the lengths of its names, at most."""


def parts_of(window: ClosedWindow, most: int = SERIES_IN_A_PART) -> Iterator[dict[str, Any]]:
    """The records (schema ClosedWindow) of one window, at least one, each with at most ``most`` series."""
    series = list(window.series.items())
    begins = _begins([_size(one) for one in window.series], most)
    parts = len(begins)
    for part, (begin, end) in enumerate(zip(begins, [*begins[1:], len(series)], strict=True)):
        yield {
            "funnel": window.funnel,
            "window_start": window.window_start,
            "window_end": window.window_end,
            "revision": window.revision,
            "part": part,
            "parts": parts,
            "series": [{"step": one.step, **_dimensions(one), **row._asdict()} for one, row in series[begin:end]],
        }


def _begins(sizes: Sequence[int], most: int) -> list[int]:
    """The place of the first series of each part."""
    begins, size = [0], 0
    for place, one in enumerate(sizes):
        size += one
        if place - begins[-1] == most or (size > BYTES_IN_A_PART and place > begins[-1]):
            begins.append(place)
            size = one
    return begins


def _size(series: Series) -> int:
    """The bytes of a series in a part, and somewhat more."""
    return (
        NUMBERS + len(series.step.encode()) + sum(len((name + value).encode()) + 2 for name, value in series.dimensions)
    )


def _dimensions(series: Series) -> dict[str, Any]:
    """The fields of SeriesCounts with the dimensions of a series."""
    values = dict(series.dimensions)
    return {**{name: values.pop(name, "") for name in DIMENSION_FIELDS}, "dimensions": values}


def _series(funnel: str, counts: Mapping[str, Any]) -> Series:
    """The series of a SeriesCounts."""
    values = {name: counts[name] for name in DIMENSION_FIELDS}
    return Series.of(funnel, counts["step"], **counts["dimensions"], **values)


def is_plausible(record: Mapping[str, Any], window_ms: int, latest_ms: int) -> bool:
    """Whether a record (schema ClosedWindow) can be of a window of ours that starts at ``latest_ms`` at the latest."""
    start: int = record["window_start"]
    return bool(
        0 <= start <= latest_ms
        and start % window_ms == 0
        and record["window_end"] - start == window_ms
        and 0 <= record["part"] < record["parts"]
        and record["revision"] >= 0
    )


class Assembler:
    """Puts parts together again. Parts of one funnel come in order; one that begins anew replaces what was begun."""

    def __init__(self) -> None:
        self._begun: dict[str, ClosedWindow] = {}
        self._next_part: dict[str, int] = {}

    def add(self, record: Mapping[str, Any]) -> ClosedWindow | None:
        """The window, when this record completes it. A part that is out of order is dropped with what it belongs to."""
        funnel = record["funnel"]
        if record["part"] == 0:
            self._begun[funnel] = ClosedWindow(
                funnel, record["window_start"], record["window_end"], record["revision"], {}
            )
            self._next_part[funnel] = 0
        window = self._begun.get(funnel)
        if (
            window is None
            or record["part"] != self._next_part[funnel]
            or (window.window_start, window.revision) != (record["window_start"], record["revision"])
        ):
            self._begun.pop(funnel, None)
            return None
        self._next_part[funnel] += 1
        for counts in record["series"]:
            window.series[_series(funnel, counts)] = CountRow(*(counts[name] for name in CountRow._fields))
        if self._next_part[funnel] == record["parts"]:
            return self._begun.pop(funnel)
        return None


class ActiveSeries:
    """The series of one funnel that had events within the active horizon, window by window, forward in time.

    A series is active in the windows from its first event on, until ``horizon_ms`` after its last one.
    """

    def __init__(self, horizon_ms: int, last_seen: Mapping[Series, int]) -> None:
        self._horizon_ms = horizon_ms
        self._last_seen = dict(last_seen)
        self._sorted: list[Series] = []

    def close(
        self, funnel: str, window_start: int, window_ms: int, revision: int, rows: Mapping[Series, CountRow]
    ) -> ClosedWindow | None:
        """The closed window, zeros included; None if no series is active. Call it for each window, in order."""
        for series in rows:
            self._last_seen[series] = max(window_start, self._last_seen.get(series, window_start))
        oldest = window_start - self._horizon_ms
        gone = [series for series, last in self._last_seen.items() if last < oldest]
        for series in gone:
            del self._last_seen[series]
        # Sorting thousands of names takes as long as publishing them, and most windows have the same names.
        if gone or len(self._sorted) != len(self._last_seen):
            self._sorted = sorted(self._last_seen)
        if not self._sorted:
            return None
        shown = {series: rows.get(series, NOTHING) for series in self._sorted}
        return ClosedWindow(funnel, window_start, window_start + window_ms, revision, shown)

    def __len__(self) -> int:
        """How many series were active in the window that was closed last."""
        return len(self._last_seen)
