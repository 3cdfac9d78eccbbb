"""Fuzzes the decoder in C, built with AddressSanitizer and UndefinedBehaviorSanitizer: ``make fuzz-decode``."""

from __future__ import annotations

import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from funnelwatch.schemas.codec import Encoder
from funnelwatch.schemas.files import SCHEMAS
from funnelwatch.stream.native import backend
from funnelwatch.stream.native.plans import plan_for
from tests.traffic import event

if TYPE_CHECKING:
    from collections.abc import Iterable

SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
NOW, BEFORE = b"\0\0\0\0\1", b"\0\0\0\0\2"
"""Headers of two versions of the schema."""
SOURCE = Path(__file__).parent / "fuzz_decode.c"


def write(path: Path, parts: Iterable[bytes]) -> None:
    """Write parts, each behind its length."""
    path.write_bytes(b"".join(struct.pack("<I", len(part)) + part for part in parts))


def corpus() -> list[bytes]:
    """Values of events that differ in what the decoder looks at."""
    encode = Encoder("FunnelEvent")
    changes: list[dict[str, object]] = [
        {},
        {"phase": "POST_VERIFICATION", "status": "SUCCESS", "duration_ms": 1_000},
        {"phase": "POST_VERIFICATION", "status": "FAILURE", "duration_ms": None},
        {"contexts": {"country": "DE", "plan": "日本語", "other": ""}},
        {"contexts": {str(at): "x" * at for at in range(64)}},
        {"browser": "Ünï" * 20, "os": "x" * 100, "event_id": "e" * 500},
        {"step": "x" * 2_048, "app_version": "\0"},
        {"ts": 0, "duration_ms": 2**40, "phase": "POST_VERIFICATION", "status": "SUCCESS"},
    ]
    values = [encode(event(**one)) for one in changes]
    return [header + value[10:] for value in values for header in (value[:10], NOW, BEFORE)]


def plans() -> list[tuple[bytes, bytes, bytes]]:
    """Header, program and defaults of each writer."""
    reader, left_out = SCHEMAS["FunnelEvent"], ("os", "contexts", "duration_ms")
    earlier = reader | {"fields": [one for one in reader["fields"] if one["name"] not in left_out]}
    found = []
    for header, writer in ((Encoder("FunnelEvent")(event())[:10], reader), (NOW, reader), (BEFORE, earlier)):
        plan = plan_for(writer, reader)
        assert plan is not None
        found.append((header, plan.program.tobytes(), plan.defaults))
    return found


def fuzz(seconds: int, seed: int, sources: Path = backend.FOLDER) -> str:
    """Build the fuzzer with the decoder's sources and run it; what it says.

    Raises:
        subprocess.CalledProcessError: a sanitizer or the fuzzer has found something.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "plans", [part for plan in plans() for part in plan])
        write(folder / "corpus", corpus())
        options = [one for one in backend.FLAGS if one not in ("-shared", "-O3")]
        built = [
            *backend.compiler(),
            *options,
            *SANITIZED,
            f"-I{sources}",
            '-DSOURCES=""',
            *sorted(sources.glob("*.c")),
        ]
        subprocess.run([*built, SOURCE, "-o", folder / "fuzz"], check=True)
        command = [folder / "fuzz", folder / "plans", folder / "corpus", str(seconds), str(seed)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds + 60)
    return done.stdout.strip()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seconds", default=60, show_default=True, help="How long.")
@click.option("--seed", default=1, show_default=True, help="Another seed makes other values.")
def main(seconds: int, seed: int) -> None:
    """Decode values that are changed at random; fails where a sanitizer finds something."""
    try:
        click.echo(f"{fuzz(seconds, seed)}; nothing found")
    except subprocess.CalledProcessError as error:
        sys.exit(f"found something: {error}")


if __name__ == "__main__":
    main()
