"""The body of a request, never larger than allowed, neither on the wire nor unpacked."""

from __future__ import annotations

import asyncio
import zlib
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from producers.collector.problem import Problem

if TYPE_CHECKING:
    from starlette.requests import Request

GZIP = 16 + zlib.MAX_WBITS
DRAIN_TIMES = 8
"""Of a body that is too large, so many times the limit is read and thrown away, so that the sender reads the answer."""


async def read_body(request: Request, most: int, timeout_s: float) -> bytes:
    """The whole body, unpacked where Content-Encoding says gzip.

    Args:
        request: whose body.
        most: bytes, both as sent and unpacked.
        timeout_s: it must be there by then, in seconds.

    Raises:
        Problem: it is too large (413), too slow (408), packed otherwise (415), or is not what it says (400).
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower() or "identity"
    if encoding not in ("identity", "gzip"):
        raise Problem(415, f"Content-Encoding: {encoding!r} is not known; right would be gzip or none", close=True)
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
    return _gunzip(raw, most) if encoding == "gzip" else raw


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


def _gunzip(raw: bytes, most: int) -> bytes:
    """Unpack, all members, and stop at the limit: a small body can unpack to gigabytes."""
    out = bytearray()
    while raw:
        unpacker = zlib.decompressobj(GZIP)
        try:
            out += unpacker.decompress(raw, most + 1 - len(out))
        except zlib.error as error:
            raise Problem(400, f"the body is not gzip, as Content-Encoding says: {error}") from None
        if len(out) > most:
            raise Problem(413, _too_large(f"more than {most} bytes unpacked", most))
        if not unpacker.eof:
            raise Problem(400, "the body ends in the middle of its gzip data")
        raw = unpacker.unused_data.lstrip(b"\0")
    return bytes(out)


def _too_large(what: str, most: int) -> str:
    return f"the body has {what}, more than {most}; send fewer events at once"
