"""Reads the body of a request within limits, both compressed and uncompressed."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from funnelwatch.producers.http.problem import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

    from funnelwatch.producers.collector.turns import Turns

GZIP = 16 + zlib.MAX_WBITS
DRAIN_TIMES = 8
"""The collector discards up to this many times the limit of a large body, so that the sender reads the response."""
UNPACK_BYTES = 8_192
"""Compressed bytes per slice of work; between slices the event loop serves other requests."""
MOST_MEMBERS = 100
"""Gzip members of one body; a client makes one, and each costs as much as kilobytes of data."""


async def read_body(request: Request, most: int, timeout_s: float, turns: Turns) -> bytes:
    """The whole body, uncompressed if Content-Encoding is gzip.

    Args:
        request: the request.
        most: limit of the body, compressed and uncompressed, bytes.
        timeout_s: limit of the time to the end of the body, s.
        turns: for the work of uncompressing.

    Raises:
        Problem: the body is too large (413), too slow (408), in another encoding (415), or not gzip (400).
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip"):
        raise Problem(415, f"Content-Encoding: {encoding[:50]!r} is not known; right would be gzip or none", close=True)
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > most * DRAIN_TIMES:
        raise Problem(413, _too_large(f"{announced} bytes", most), close=True)
    try:
        async with asyncio.timeout(timeout_s):
            raw = await _read(request, most)
    except TimeoutError:
        raise Problem(408, f"the body was not complete after {timeout_s:g} s", close=True) from None
    except ClientDisconnect:
        raise Problem(400, "the connection was closed before the body was complete", close=True) from None
    if encoding != "gzip":
        return raw
    async with turns.turn():
        return await _gunzip(raw, most)


async def _read(request: Request, most: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most * DRAIN_TIMES:
            break
        if size <= most:
            parts.append(part)
    if size > most:
        raise Problem(413, _too_large(f"more than {size - 1} bytes", most), close=True)
    return b"".join(parts)


async def _gunzip(raw: bytes, most: int) -> bytes:
    """Unpack all members in slices, and stop at the limits: a small body can unpack to gigabytes.

    A slice is small, since zlib copies what follows a member, and a body can have a member every 20 bytes.
    """
    out = bytearray()
    members = 0
    unpacker = None
    for begin in range(0, len(raw), UNPACK_BYTES):
        await asyncio.sleep(0)
        part = raw[begin : begin + UNPACK_BYTES]
        while part:
            if unpacker is None:
                part = part.lstrip(b"\0") if members else part  # zeros may pad the end of a member
                if not part:
                    break
                members += 1
                if members > MOST_MEMBERS:
                    raise Problem(413, f"the body has more than {MOST_MEMBERS} gzip members; pack it as one")
                unpacker = zlib.decompressobj(GZIP)
            try:
                out += unpacker.decompress(part, most + 1 - len(out))
            except zlib.error as error:
                raise Problem(400, f"the body is not gzip, as Content-Encoding says: {error}") from None
            if len(out) > most:
                raise Problem(413, _too_large(f"more than {most} bytes unpacked", most))
            part = unpacker.unused_data
            if unpacker.eof:
                unpacker = None
    if unpacker is not None:
        raise Problem(400, "the body ends in the middle of its gzip data")
    return bytes(out)


def _too_large(what: str, most: int) -> str:
    return f"the body has {what}, more than {most}; send fewer events at once"
