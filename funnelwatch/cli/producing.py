"""Shared by the commands that produce events: progress on stderr, errors as one line."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from funnelwatch.producers.kafka.topics import KafkaUnreachable, ensure_topics
from funnelwatch.schemas.codec import RegistryRejected, RegistryUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from funnelwatch.schemas.settings import Settings

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


@contextmanager
def progress_line(what: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A line on stderr with the events so far and their rate; with a total, also a bar of its done share.

    Yields:
        To be called with the number of events and how much of the total is done.
    """
    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        *([BarColumn()] if total else []),
        TextColumn("{task.fields[events]:,} events"),
        TimeElapsedColumn(),
    ]
    console = Console(stderr=True)
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, refresh_per_second=5, disable=not shown) as progress:
        task = progress.add_task(what, total=total, events=0)
        yield lambda events, done: progress.update(task, events=events, completed=done)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns an error of Kafka or the registry into one clear line and exit code 1."""
    try:
        yield
    except (KafkaUnreachable, RegistryUnavailable, RegistryRejected) as error:
        raise click.ClickException(str(error)) from error


def make_topics(settings: Settings) -> list[str]:
    """Create the missing topics and print their names."""
    with clear_errors():
        made = ensure_topics(settings)
    if made:
        click.echo(f"made the topics {', '.join(made)}", err=True)
    return made
