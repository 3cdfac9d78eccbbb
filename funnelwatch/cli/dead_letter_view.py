"""Dead letters for a person, and for a program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from funnelwatch.format import clock, console, printable
from funnelwatch.schemas.codec import RegistryUnavailable, Undecodable
from funnelwatch.schemas.times import iso
from funnelwatch.stream.intake.dead_letter_log import decodable_fields, rejection_now

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Collection, Iterator, Sequence

    from funnelwatch.sinks.timescale.replays import RecordPlace
    from funnelwatch.stream.aggregate.metric_validator import MetricValidator
    from funnelwatch.stream.intake.dead_letter_log import DeadLetter
    from funnelwatch.stream.intake.validator import EventValidator

SHOWN_BYTES = 256
A_LINE = 16


def draw_letters(letters: Sequence[DeadLetter], replayed: Collection[RecordPlace]) -> None:
    """A table of letters, one a line."""
    if not letters:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Rejected at", "Letter", "Reason", "Record"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Detail", overflow="fold")
    for letter in letters:
        note = "(replayed) " if letter.source in replayed else ""
        cells = (
            clock(letter.sent_ms),
            f"{letter.partition}:{letter.offset}",
            printable(letter.reason),
            record_name(letter),
            f"{note}{printable(letter.detail)}",
        )
        table.add_row(*(Text(cell) for cell in cells))
    console().print(table)


def draw_summary(topic: str, by_reason: Counter[str]) -> None:
    """How many letters there are, by reason."""
    if not by_reason:
        click.echo(f"{topic}: no dead letters")
        return
    click.echo(f"{topic}: {by_reason.total():,} rejected record(s)")
    for reason, count in by_reason.most_common():
        click.echo(f"  {count:>9,} {printable(reason)}")


def record_name(letter: DeadLetter) -> str:
    """Where the rejected record stood, in short."""
    place = letter.source
    return "unknown" if place is None else f"{printable(place.topic)} {place.partition}:{place.offset}"


def as_record(letter: DeadLetter, replayed: Collection[RecordPlace] | None = None) -> dict[str, Any]:
    """A letter without its bytes; times ISO 8601 UTC. Without ``replayed``, whether it was is left out."""
    place = letter.source
    return {
        "partition": letter.partition,
        "offset": letter.offset,
        "rejected_at": iso(letter.sent_ms),
        "reason": letter.reason,
        "detail": letter.detail,
        "source": None
        if place is None
        else {
            "topic": place.topic,
            "partition": place.partition,
            "offset": place.offset,
            "timestamp": iso(place.timestamp),
        },
        "key": None if letter.key is None else letter.key.decode(errors="backslashreplace"),
        "bytes": len(letter.value or b""),
        "truncated_from": letter.truncated_from,
        **({} if replayed is None else {"replayed": place in replayed}),
    }


def one_letter(letter: DeadLetter, validator: EventValidator | MetricValidator, now_ms: int, *, to_json: bool) -> str:
    """A letter with its headers, bytes, what decodes of them, and the verdict of now."""
    event, whole, verdict = _verdict(letter, validator, now_ms)
    if to_json:
        content = {
            **as_record(letter),
            "headers": [list(header) for header in letter.headers],
            "value_hex": None if letter.value is None else letter.value.hex(),
            "event": event if whole else None,
            "decodable_fields": event,
            "now": verdict,
        }
        return json.dumps(content, indent=2)
    value = letter.value or b""
    key = None if letter.key is None else printable(letter.key.decode(errors="backslashreplace"))
    lines = [
        f"letter {letter.partition}:{letter.offset}, rejected at {clock(letter.sent_ms)}",
        *(f"  {printable(name)}: {printable(text)}" for name, text in letter.headers),
        f"key: {key or 'none'}",
        f"value: {'none' if letter.value is None else f'{len(value):,} bytes'}",
        *hexdump(value[:SHOWN_BYTES]),
    ]
    if len(value) > SHOWN_BYTES:
        lines.append(f"  … and {len(value) - SHOWN_BYTES:,} bytes more")
    if event:
        lines.append("decodes as:" if whole else "decodes in part, as far as it goes (a hint, not data):")
        lines += [f"  {name}: {json.dumps(field)}" for name, field in event.items()]
    return "\n".join([*lines, f"now: {verdict}"])


def _verdict(
    letter: DeadLetter, validator: EventValidator | MetricValidator, now_ms: int
) -> tuple[dict[str, Any], bool, str]:
    """The decoded fields, whether they are complete, and the verdict of a worker now."""
    try:
        event, whole = validator.decode(letter.value), True
    except RegistryUnavailable as error:
        return {}, False, f"unknown: {error}"
    except Undecodable:
        event, whole = decodable_fields(letter.value), False
    if letter.truncated_from is not None:
        return event, whole, f"only the first bytes of {letter.truncated_from:,} are kept: it cannot be replayed"
    rejection = rejection_now(validator, letter, now_ms)
    return event, whole, "would be accepted" if rejection is None else f"would be rejected again: {rejection}"


def hexdump(value: bytes) -> Iterator[str]:
    """Lines of an offset, sixteen bytes and their printable ASCII."""
    for start in range(0, len(value), A_LINE):
        part = value[start : start + A_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)  # noqa: PLR2004 - printable ASCII
        yield f"  {start:06x}  {part.hex(' '):<47}  {text}"
