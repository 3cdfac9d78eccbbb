"""Loads the library that ``backend.py`` has built of the C sources beside it."""

from __future__ import annotations

import ctypes
import os
import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from funnelwatch.schemas.errors import FunnelwatchError
from funnelwatch.stream.native.sources import FOLDER, digest_of_sources

PATH = Path(os.environ.get("FUNNELWATCH_NATIVE_LIBRARY", FOLDER / "native.bin"))
"""Tests name another build of the same sources."""

ROW = np.dtype(
    [
        ("offset", np.int64),
        ("log_time", np.int64),
        ("id", np.uint64),
        ("session", np.uint64),
        ("ts", np.int64),
        ("duration", np.int64),
        ("series", np.int32),
        ("outcome", np.int32),
        ("bytes_at", np.int64),
        ("key_size", np.int32),
        ("value_size", np.int32),
    ]
)
"""``struct row`` of event.h."""

PLACE = np.dtype([("funnel", np.uint64), ("window_ms", np.int64), ("step", np.int32), ("first", np.int32)])
"""``struct place`` of sessions.h."""

CREDIT = np.dtype([("offset", np.int64), ("moment", np.int64), ("series", np.int32), ("column", np.int32)])
"""``struct credit`` of sessions.h."""

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Ints

    Rows = NDArray[np.void]

KEYS = 256 + 130 + 2
"""Numbers in ``struct keys`` of digest.h."""

ODD_FROM = 256
"""From here on they are factors, which must be odd."""


class Counts(ctypes.Structure):
    """``struct counts`` of counts.c, as far as Python reads it."""

    _fields_: ClassVar = [
        ("rows", ctypes.c_int64),
        ("cells", ctypes.c_int64),
        ("row_keys", ctypes.POINTER(ctypes.c_int64)),
        ("numbers", ctypes.POINTER(ctypes.c_int64)),
        ("cell_keys", ctypes.POINTER(ctypes.c_int64)),
        ("times", ctypes.POINTER(ctypes.c_int64)),
        ("first", ctypes.c_int64),
        ("spread", ctypes.c_int64),
    ]

    def columns(self) -> tuple[Ints, Ints, Ints, Ints]:
        """The arrays, where they are: they end with the structure."""
        rows, cells, array = self.rows, self.cells, np.ctypeslib.as_array
        return (
            array(self.row_keys, (rows,)),
            array(self.numbers, (rows, 9)),
            array(self.cell_keys, (cells,)),
            array(self.times, (cells,)),
        )


class Survey(ctypes.Structure):
    """``struct survey`` of event.h: what there is among rows.

    Attributes:
        unplanned: records whose headers have no plan.
        doubtful: records that are not plainly events, those among them.
        provisional: events of series that are not decided about.
        earliest: of Kafka's timestamps, ms; anything where there are no rows.
        latest: likewise.
    """

    unplanned: int
    doubtful: int
    provisional: int
    earliest: int
    latest: int
    _fields_: ClassVar = [
        (name, ctypes.c_int64) for name in ("unplanned", "doubtful", "provisional", "earliest", "latest")
    ]


_ANY, _INT, _WORD = ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64
_SIGNATURES: dict[str, tuple[type | None, list[type]]] = {
    "fw_seed": (None, [_ANY]),
    "fw_digests": (None, [_INT, ctypes.c_char_p, _ANY, _ANY]),
    "fw_decoder_new": (_ANY, [_INT, _INT, ctypes.c_char_p, _ANY, _ANY, _INT, _INT]),
    "fw_decoder_free": (None, [_ANY]),
    "fw_decoder_funnel": (ctypes.c_int, [_ANY, _WORD, _INT]),
    "fw_decoder_plan": (ctypes.c_int, [_ANY, ctypes.c_char_p, _INT, _ANY, _INT, ctypes.c_char_p, _INT]),
    "fw_series_new": (_ANY, []),
    "fw_series_free": (None, [_ANY]),
    "fw_series_size": (_INT, [_ANY]),
    "fw_series_numbers": (_ANY, [_ANY]),
    "fw_decode": (ctypes.c_int, [_ANY, _ANY, _ANY, _INT, _ANY, ctypes.c_char_p, _INT]),
    "fw_kafka": (None, [_ANY]),
    "fw_newest_client": (_ANY, []),
    "fw_poll_new": (_ANY, []),
    "fw_poll_free": (None, [_ANY]),
    "fw_poll_partition": (_ANY, [_ANY, ctypes.c_int32]),
    "fw_poll_drop": (None, [_ANY, ctypes.c_int32]),
    "fw_poll_assign": (ctypes.c_int, [_ANY, ctypes.c_int32, _INT]),
    "fw_poll_clear": (None, [_ANY]),
    "fw_poll_add": (ctypes.c_int, [_ANY, ctypes.c_int32, _INT, _INT, ctypes.c_char_p, _INT, ctypes.c_char_p, _INT]),
    "fw_free": (None, [_ANY]),
    "fw_survey": (None, [_INT, _ANY, ctypes.POINTER(Survey)]),
    "fw_take": (_INT, [_ANY, _ANY, _ANY, _ANY, _ANY, _INT, _INT]),
    "fw_seen_new": (_ANY, [_INT, _INT]),
    "fw_seen_free": (None, [_ANY]),
    "fw_seen_are_new": (_INT, [_ANY, _INT, _ANY, _INT, _ANY]),
    "fw_seen_forget": (None, [_ANY, _INT, _ANY]),
    "fw_seen_size": (_INT, [_ANY]),
    "fw_seen_shortened": (_INT, [_ANY]),
    "fw_sessions_new": (_ANY, [_INT, _INT]),
    "fw_sessions_free": (None, [_ANY]),
    "fw_sessions_credits": (_INT, [_ANY, _INT, _ANY, _ANY, _INT, _ANY]),
    "fw_sessions_void": (ctypes.c_int, [_ANY, _INT, _ANY, _ANY]),
    "fw_sessions_size": (_INT, [_ANY]),
    "fw_sessions_shortened": (_INT, [_ANY]),
    "fw_counts_of": (ctypes.POINTER(Counts), [_INT, _ANY, _INT, _ANY, _INT]),
    "fw_counts_free": (None, [ctypes.POINTER(Counts)]),
}


class NativeLibraryError(FunnelwatchError, RuntimeError):
    """The library cannot be used."""


@cache
def native() -> ctypes.CDLL:
    """The library, loaded once.

    Raises:
        NativeLibraryError: it is missing, or was not built of the sources beside it.
    """
    advice = "build it: 'pip install --no-build-isolation --editable .' in a checkout, else install funnelwatch again"
    try:
        library = ctypes.CDLL(str(PATH))
        built_of = ctypes.c_char * 65
        sources = built_of.in_dll(library, "fw_sources").value.decode()
    except (OSError, ValueError) as error:
        raise NativeLibraryError(f"{PATH.name} of funnelwatch.stream cannot be loaded ({error}); {advice}") from error
    if sources != digest_of_sources():
        raise NativeLibraryError(f"{PATH.name} of funnelwatch.stream was built of other sources; {advice}")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    # Random for each process, so that no sender can make strings of equal digest.
    keys = np.frombuffer(secrets.token_bytes(KEYS * 8), np.uint64).copy()
    keys[ODD_FROM:] |= np.uint64(1)
    library.fw_seed(keys.ctypes.data)
    return library


def enough_memory(done: object) -> None:
    """Raise if a function of the library says that it has none."""
    if not done:
        raise MemoryError


def survey(rows: Rows) -> Survey:
    """What there is among rows."""
    found = Survey()
    native().fw_survey(rows.size, rows.ctypes.data, found)
    return found
