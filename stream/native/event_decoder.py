"""Decodes events, many at once, in C; a record that is not plainly an event of a known writer is left to others.

The decoder knows no errors. It leaves a record ``DOUBTFUL`` wherever it is not sure, and fastavro and ``check`` decide
about that record by itself: what is wrong, or that it is an event after all. A record that is passed over costs time,
and changes nothing.
"""

from __future__ import annotations

import weakref
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from funnelwatch.schemas.codec import (
    CONFLUENT_HEADER,
    SINGLE_OBJECT,
    SINGLE_OBJECT_HEADER,
    Decoder,
    Undecodable,
)
from funnelwatch.schemas.dimensions import DIMENSION_FIELDS
from funnelwatch.schemas.funnels import context_keys
from funnelwatch.schemas.validation import MAX_ID_LENGTH
from funnelwatch.stream.intake.batches import DOUBTFUL, UNPLANNED
from funnelwatch.stream.native.digests import digests_of
from funnelwatch.stream.native.library import enough_memory, native, survey
from funnelwatch.stream.native.plans import MOST_DIMENSIONS, plan_for
from funnelwatch.stream.native.series_numbers import NumberedSeries, SeriesNumbers

if TYPE_CHECKING:
    from typing import Any

    from funnelwatch.schemas.arrays import Ints
    from funnelwatch.schemas.funnels import Funnels
    from funnelwatch.schemas.validation import Limits
    from funnelwatch.stream.intake.batches import Records

WRITERS_AT_ONCE = 8
"""Records of more unknown writers than this in one batch are decoded one by one."""


class EventDecoder:
    """Decodes records into rows. For one thread.

    Args:
        decode: knows the reader's schema, and whose schema a value's header names; where it is no ``Decoder`` every
            record is doubtful.
        funnels: the declared funnels.
        limits: the events that are accepted.
        max_value_bytes: larger values are doubtful.
    """

    def __init__(self, decode: Any, funnels: Funnels, limits: Limits, max_value_bytes: int) -> None:
        self._limits = limits
        self._max_value_bytes = max_value_bytes
        self._numbers = SeriesNumbers(NumberedSeries(funnels))
        contexts = context_keys(funnels)
        self._planner = decode if isinstance(decode, Decoder) else None
        if len(DIMENSION_FIELDS) + len(contexts) > MOST_DIMENSIONS:
            self._planner, contexts = None, ()
        self.handle = _decoder_for(funnels if self._planner else {}, contexts)
        weakref.finalize(self, native().fw_decoder_free, self.handle)

    def numbers(self) -> SeriesNumbers:
        """The numbers for the series of the next batch."""
        if self._numbers.is_full:
            self._numbers = SeriesNumbers(self._numbers.known)
        return self._numbers

    def limits_at(self, now_ms: int) -> Ints:
        """``struct limits`` of event.h: the limits as of a moment."""
        limits = self._limits
        return np.array(
            [
                limits.oldest_ms(now_ms),
                now_ms + limits.max_future_ms,
                limits.dropped_ms,
                limits.max_age_ms,
                self._max_value_bytes,
            ],
            np.int64,
        )

    def __call__(self, records: Records, now_ms: int) -> Records:
        """The records, decoded as far as they plainly can be.

        Raises:
            RegistryUnavailable: a writer's schema could not be looked up now.
        """
        if records.numbers is None:
            records = replace(records, rows=records.rows.copy(), numbers=self.numbers())
        if self._planner is None or not survey(records.rows).unplanned:
            return records
        outcomes = records.rows["outcome"]
        for _ in range(WRITERS_AT_ONCE):
            unplanned = np.flatnonzero(outcomes == UNPLANNED)
            if not unplanned.size:
                return records
            self._decode(records, now_ms)
            unplanned = unplanned[outcomes[unplanned] == UNPLANNED]
            if unplanned.size and not self._learn(_header(records, unplanned[0])):
                header = _header(records, unplanned[0])
                outcomes[[at for at in unplanned.tolist() if _header(records, at) == header]] = DOUBTFUL
        outcomes[outcomes == UNPLANNED] = DOUBTFUL
        return records

    def _decode(self, records: Records, now_ms: int) -> None:
        """Decode the rows of records whose headers had no plan so far."""
        assert records.numbers is not None
        rows, limits = records.rows, self.limits_at(now_ms)
        done = native().fw_decode(
            self.handle,
            records.numbers.handle,
            limits.ctypes.data,
            len(rows),
            rows.ctypes.data,
            records.content,
            UNPLANNED,
        )
        enough_memory(done)

    def _learn(self, header: bytes) -> bool:
        """Make a plan for the writer that a header names; False where it names none, which may change."""
        assert self._planner is not None
        try:
            plan = plan_for(self._planner.writer(header), self._planner.reader)
        except Undecodable:
            return False
        program, defaults = (plan.program, plan.defaults) if plan else (np.zeros(0, np.int64), b"")
        enough_memory(
            native().fw_decoder_plan(
                self.handle, header, len(header), program.ctypes.data, program.size, defaults, len(defaults)
            )
        )
        return True


def _header(records: Records, at: int) -> bytes:
    value = records[at].value or b""
    return value[: SINGLE_OBJECT_HEADER if value[:2] == SINGLE_OBJECT else CONFLUENT_HEADER]


def _decoder_for(funnels: Funnels, contexts: tuple[str, ...]) -> Any:
    """``struct decoder`` of decoder.h, without plans."""
    places = {name: place for place, name in enumerate((*DIMENSION_FIELDS, *contexts))}
    lists = [len(DIMENSION_FIELDS), *range(len(DIMENSION_FIELDS))]
    begins = {}
    for name, funnel in funnels.items():
        begins[name] = len(lists)
        lists += [len(funnel.dimensions), *(places[one] for one in funnel.dimensions)]
    encoded = [name.encode() for name in contexts]
    ends, flat = np.cumsum([len(one) for one in encoded], dtype=np.int64), np.array(lists, np.int64)
    handle = native().fw_decoder_new(
        len(DIMENSION_FIELDS),
        len(contexts),
        b"".join(encoded),
        ends.ctypes.data,
        flat.ctypes.data,
        flat.size,
        MAX_ID_LENGTH,
    )
    enough_memory(handle)
    for digest, begin in zip(digests_of(list(begins)).tolist(), begins.values(), strict=True):
        enough_memory(native().fw_decoder_funnel(handle, digest, begin))
    return handle
