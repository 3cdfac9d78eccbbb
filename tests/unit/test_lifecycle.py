"""Components start in their order, stop in reverse, and a failure in the middle stops what has started."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

import pytest

from funnelwatch.stream.worker import lifecycle
from funnelwatch.stream.worker.lifecycle import Component, Lifecycle, NotRunningError
from funnelwatch.stream.worker.threads import Threads, one_round, until_stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack


class Journal:
    """Makes components that note when they start and stop, and on which thread."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.threads: dict[str, str] = {}

    def component(
        self, name: str, thread: str, *, fails: bool = False, on_stop: Callable[[], None] = lambda: None
    ) -> Component[str]:
        """One that opens something, and fails after that if told to."""

        def stop() -> None:
            self.lines.append(f"stop {name}")
            on_stop()

        def make(resources: ExitStack) -> str:
            self.lines.append(f"start {name}")
            self.threads[name] = threading.current_thread().name
            resources.callback(stop)
            if fails:
                raise RuntimeError(f"{name} cannot start")
            return name

        return Component(name, thread, make)


def broken() -> None:
    """Fail to stop."""
    raise RuntimeError("it cannot be closed")


@pytest.fixture
def journal() -> Journal:
    """An empty one."""
    return Journal()


def test_components_start_in_their_order_and_stop_in_reverse(journal: Journal) -> None:
    """Each on its own thread, and each can be used in between only."""
    first, second = journal.component("first", "intake"), journal.component("second", "count")

    async def run() -> None:
        parts = Lifecycle([first, second], Threads())
        await parts.start()
        assert (first.running, second.if_running) == ("first", "second")
        await parts.stop()

    asyncio.run(run())
    assert journal.lines == ["start first", "start second", "stop second", "stop first"]
    assert {name: thread.split("_")[0] for name, thread in journal.threads.items()} == {
        "first": "intake",
        "second": "count",
    }
    assert first.if_running is None


def test_a_failure_in_the_middle_stops_what_has_started(journal: Journal) -> None:
    """What the failed one had opened is closed as well; the next one never starts; the error is raised."""
    names = ("first", "second", "third")
    components = [journal.component(name, "intake", fails=name == "second") for name in names]
    with pytest.raises(RuntimeError, match="second cannot start"):
        asyncio.run(Lifecycle(components, Threads()).start())
    assert journal.lines == ["start first", "start second", "stop second", "stop first"]
    assert [one.if_running for one in components] == [None, None, None]


def test_an_error_while_stopping_stops_the_others_all_the_same(journal: Journal) -> None:
    """A client that cannot be closed must not keep the consumer in its group."""
    first, second = journal.component("first", "intake"), journal.component("second", "count", on_stop=broken)

    async def run() -> None:
        parts = Lifecycle([first, second], Threads())
        await parts.start()
        await parts.stop()

    asyncio.run(run())
    assert journal.lines[-2:] == ["stop second", "stop first"]


def test_one_that_hangs_is_left_behind(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread waits for a server; the others stop on theirs."""
    monkeypatch.setattr(lifecycle, "STOP_S", 0.05)
    answers = threading.Event()

    def wait() -> None:
        answers.wait(30)

    first, second = journal.component("first", "intake"), journal.component("second", "count", on_stop=wait)

    async def run() -> None:
        parts = Lifecycle([first, second], Threads())
        await parts.start()
        await parts.stop()
        assert journal.lines[-2:] == ["stop second", "stop first"]
        answers.set()

    asyncio.run(run())


def test_a_second_stop_does_nothing(journal: Journal) -> None:
    """Faust may stop an app that has not started, or twice."""
    first = journal.component("first", "intake")

    async def run() -> None:
        parts = Lifecycle([first], Threads())
        await parts.stop()
        await parts.start()
        await parts.stop()
        await parts.stop()

    asyncio.run(run())
    assert journal.lines == ["start first", "stop first"]


def test_a_component_is_not_used_before_its_start_and_not_started_twice(journal: Journal) -> None:
    """Both are bugs, with the name of the component."""
    first = journal.component("first", "intake")
    with pytest.raises(NotRunningError, match="'first' is not running"):
        _ = first.running
    first.start()
    with pytest.raises(NotRunningError, match="'first' is started twice"):
        first.start()
    first.stop()
    assert journal.lines == ["start first", "stop first"]


class Crashed:
    """Stands for a service; notes whether a task has crashed it."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    async def crash(self, error: BaseException) -> None:
        """Note the error."""
        self.errors.append(error)


def test_a_task_that_still_runs_when_its_component_is_stopped_ends_without_a_crash(journal: Journal) -> None:
    """Components stop before the tasks of services do: a round in between is no bug, and a bug still is one."""
    threads, one = Threads(), journal.component("one", "count")
    service = Crashed()

    @until_stopped
    async def task(own: Any) -> None:
        while True:
            await one_round(threads, own, "count", one.running.upper, "closing")
            await threads.run("count", one.stop)

    async def broken_round() -> None:
        await one_round(threads, cast("Any", service), "count", broken, "closing")

    async def never_started() -> None:
        two = journal.component("two", "count")
        await one_round(threads, cast("Any", service), "count", lambda: two.running, "closing")

    one.start()
    asyncio.run(task(service))
    assert service.errors == []
    asyncio.run(broken_round())
    asyncio.run(never_started())
    assert [type(error) for error in service.errors] == [RuntimeError, NotRunningError]
    one.start()
    assert one.running == "one"
