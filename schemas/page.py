"""One thing of each record of a batch at a time, read by numpy from wherever in the bytes that record is now.

The layout is Avro's binary encoding (avro.apache.org/docs/1.12.0/specification): a string is its length and its UTF-8,
a number a zigzag varint, an enum's symbol and a union's branch a small number, a map blocks of entries.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from funnelwatch.schemas.arrays import Flags, Ints, Words


LONGEST_TEXT = 2048
"""Strings of more bytes are not read here."""

MOST_TEXTS = 64
"""Hardly a string has more bytes: beyond this only those are looked at that do."""

LONGEST_MAP = 64
"""Maps of more entries are not read here."""

MOST_JOINED = 128
"""Columns that can be joined into one digest."""

_PAD = bytes(MOST_TEXTS + 16)
"""Follows the values in a page, so that nobody reads beyond its end."""

_HIGH = np.uint64(0x8080808080808080)
_MASKS = np.array([(1 << 8 * size) - 1 for size in range(9)], dtype=np.uint64)


@dataclass(frozen=True, slots=True)
class Text:
    """A column of strings, valid UTF-8, where they stand in the buffer.

    ``sums`` are 64-bit hashes of the strings, in this process always the same for the same string; ``finish`` makes
    digests of them, ``joined`` one of several columns. None where nobody asked for them.
    """

    starts: Ints
    lengths: Ints
    sums: Words | None

    def where(self, kept: Flags) -> Text:
        """Some of them."""
        return Text(self.starts[kept], self.lengths[kept], None if self.sums is None else self.sums[kept])


class Page:
    """The bytes of a batch.

    Every method reads at ``at``, one position a record; where what stands there is not plainly what is asked for, it
    clears that record's flag in ``good``, and what it returns of it is anything.

    Args:
        values: the bytes of each record; they stand in ``buffer`` one after the other.
        constants: what else there is to be found, by ``constant``.
    """

    def __init__(self, values: Sequence[bytes], constants: bytes = b"") -> None:
        self.buffer = buffer = b"".join((*values, _PAD, constants, _PAD))
        self._constants = len(buffer) - len(constants) - len(_PAD)
        # One further than the end, so that who ran over the end of the last record is not at its end.
        self._limit = self._constants - len(_PAD) + 1
        self._bytes = np.frombuffer(buffer, np.uint8)
        # A word at every byte, not at every eighth.
        self._words: Words = np.ndarray(len(buffer) - 7, np.dtype("<u8"), buffer, strides=(1,))

    def begins_with(self, at: Ints, head: bytes) -> Flags:
        """Whether the bytes from there on are these, of which there are at most 64."""
        same = np.ones(at.size, np.bool_)
        for begin in range(0, len(head), 8):
            part = head[begin : begin + 8]
            same &= self._words[at + begin] & _MASKS[len(part)] == np.uint64(int.from_bytes(part, "little"))
        return same

    def small(self, at: Ints, good: Flags) -> tuple[NDArray[np.uint8], Ints]:
        """A number from 0 to 63 of each, and where it ends."""
        byte = self._bytes[at]
        good &= byte & np.uint8(0x81) == 0
        return byte >> np.uint8(1), np.minimum(at + 1, self._limit)

    def long(self, at: Ints, good: Flags) -> tuple[Ints, Ints]:
        """A varint of up to eight bytes of each, and where it ends; more bytes are not good."""
        words = self._words[at]
        last = ~words & _HIGH
        last &= np.negative(last)
        good &= last != 0
        below = last - np.uint64(1)
        words &= (below | last) & ~_HIGH
        # Seven bits of each byte move together.
        words = words & np.uint64(0x007F007F007F007F) | (words & np.uint64(0x7F007F007F007F00)) >> np.uint64(1)
        words = words & np.uint64(0x00003FFF00003FFF) | (words & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2)
        words = words & np.uint64(0x000000000FFFFFFF) | (words & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4)
        numbers = (words >> np.uint64(1)).view(np.int64) ^ -(words & np.uint64(1)).view(np.int64)
        size = (np.bitwise_count(below).astype(np.int64) + 1) >> 3
        return numbers, np.minimum(at + size, self._limit)

    def text(self, at: Ints, good: Flags) -> tuple[Ints, Ints, Ints]:
        """A string of each: where it starts, its bytes, where it ends."""
        first = self._bytes[at]
        if (first & 0x81).any():
            lengths, starts = self.long(at, good)
            good &= (lengths >= 0) & (lengths <= LONGEST_TEXT)
            lengths = np.clip(lengths, 0, LONGEST_TEXT)
        else:
            lengths, starts = (first >> 1).astype(np.int64), at + 1
        ends = np.minimum(starts + lengths, self._limit)
        return starts, ends - starts, ends

    def map(self, at: Ints, good: Flags, keys: Sequence[bytes] = ()) -> tuple[list[tuple[Ints, Ints]], Ints]:
        """The values of some keys of a map of strings, and where it ends; one of several blocks is not good.

        Of each key where the values start, and their bytes: none where the map does not have the key. Where it has a
        key twice, the last value counts, as fastavro has it.
        """
        values = [(np.zeros(at.size, np.int64), np.zeros(at.size, np.int64)) for _ in keys]
        if not self._bytes[at].any():
            return values, at + 1
        left, at = self.long(at, good)
        good &= (left >= 0) & (left <= LONGEST_MAP)
        left[~good] = 0
        full = np.flatnonzero(left)
        while (rows := np.flatnonzero(left)).size:
            inner, fine = at[rows], good[rows]
            names, sizes, inner = self.text(inner, fine)
            self.check(names, sizes, fine)
            starts, lengths, inner = self.text(inner, fine)
            self.check(starts, lengths, fine)
            for key, (its_starts, its_lengths) in zip(keys, values, strict=True):
                same = np.flatnonzero(sizes == len(key))
                same = same[self.begins_with(names[same], key)]
                its_starts[rows[same]], its_lengths[rows[same]] = starts[same], lengths[same]
            at[rows], good[rows] = inner, fine
            left[rows] = np.where(fine, left[rows] - 1, 0)
        good[full] &= self._bytes[at[full]] == 0
        at[full] = np.minimum(at[full] + 1, self._limit)
        return values, at

    def sums(self, starts: Ints, lengths: Ints, good: Flags) -> Words:
        """Hashes of strings, unfinished; one that is not UTF-8 is not good.

        Each word is hashed by its place, so that words of zeros behind a string's end change nothing.
        """
        sums: Words = lengths.astype(np.uint64) * _FACTORS[0]
        for begin, rows, words in self._chunks(starts, lengths, good):
            place = begin // 4
            mixed = words * _FACTORS[place + 1]
            mixed ^= mixed >> np.uint64(32)
            mixed *= _FACTORS[place + 2]
            if rows is None:
                sums += mixed
            else:
                sums[rows] += mixed
        return sums

    def check(self, starts: Ints, lengths: Ints, good: Flags) -> None:
        """Clear the flags of strings that are not UTF-8."""
        for _ in self._chunks(starts, lengths, good):
            pass

    def _chunks(self, starts: Ints, lengths: Ints, good: Flags) -> Iterator[tuple[int, Ints | None, Words]]:
        """Eight bytes of the strings after the other, of all or of some rows; zeros behind their ends."""
        seen = np.zeros(starts.size, np.uint64)
        shortest, longest = int(lengths.min(initial=LONGEST_TEXT)), int(lengths.max(initial=0))
        for begin in range(0, min(longest, MOST_TEXTS), 8):
            words = self._words[starts + begin]
            if shortest < begin + 8:
                words &= _MASKS[np.clip(lengths - begin, 0, 8)]
            seen |= words
            yield begin, None, words
        for begin in range(MOST_TEXTS, longest, 8):
            rows = np.flatnonzero(lengths > begin)
            words = self._words[starts[rows] + begin] & _MASKS[np.minimum(lengths[rows] - begin, 8)]
            seen[rows] |= words
            yield begin, rows, words
        foreign = np.flatnonzero(seen & _HIGH)
        for at in foreign[good[foreign]].tolist():
            start = int(starts[at])
            try:
                self.buffer[start : start + int(lengths[at])].decode()
            except UnicodeDecodeError:
                good[at] = False

    def constant(self, value: str, count: int) -> Text:
        """A column in which every string is this one."""
        size = len(value.encode())
        starts = np.full(count, self.buffer.index(value.encode(), self._constants))
        lengths = np.full(count, size)
        return Text(starts, lengths, self.sums(starts, lengths, np.ones(count, np.bool_)))


def digests_of(strings: Sequence[str]) -> Words:
    """The digests of some strings, of any length."""
    encoded = [one.encode() for one in strings]
    lengths = np.array([len(one) for one in encoded], np.int64)
    return finish(Page(encoded).sums(np.cumsum(lengths) - lengths, lengths, np.ones(lengths.size, np.bool_)))


def joined(columns: Iterable[Words]) -> Words:
    """A digest of several strings in their order, from the sums of each."""
    total: Words | None = None
    for one, factor in zip(columns, _FACTORS[::-1], strict=False):
        total = one * factor if total is None else total + one * factor
    assert total is not None
    return finish(total)


def finish(sums: Words) -> Words:
    """Digests, of which every bit depends on all of the sum: the finalizer of MurmurHash3 (Appleby, 2011)."""
    digests = sums ^ sums >> np.uint64(33)
    digests *= np.uint64(0xFF51AFD7ED558CCD)
    digests ^= digests >> np.uint64(33)
    digests *= np.uint64(0xC4CEB9FE1A85EC53)
    digests ^= digests >> np.uint64(33)
    return digests


def _factors() -> Words:
    # Random for each process, so that no sender can make strings of equal digest.
    chance = random.SystemRandom()
    return np.array([chance.getrandbits(64) | 1 for _ in range(LONGEST_TEXT // 4 + 3 + MOST_JOINED)], np.uint64)


_FACTORS = _factors()
