"""The board's page over HTTP, and its numbers without Redis: for machines without a browser."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from funnelwatch.schemas.counts import CountRow
from funnelwatch.schemas.settings import Settings
from funnelwatch.web.board.cache import CacheReader
from funnelwatch.web.page import STATIC, charts_path
from tests.web import Served, served

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = Settings(
    redis_url="redis://127.0.0.1:1/0",
    timescale_url="postgresql://nobody@127.0.0.1:1/nothing",
    kafka_bootstrap_servers="127.0.0.1:1",
)
UPLOT_1_6_31 = "2d27e8ad3d228164525ce213f9dc716f39b4e3aee0cc773fb3491c96cf4921a2"
"""sha256 of dist/uPlot.iife.min.js in the package uplot 1.6.31 on npm."""
MINUTE = 60_000
T = 1_794_996_000_000


@pytest.fixture(scope="module")
def board() -> Iterator[Served]:
    """The board on servers that are all away: the page itself needs none."""
    with served(NOWHERE) as running:
        yield running


def test_the_page_and_all_that_it_names_are_there(board: Served) -> None:
    """Every script, style and picture that the page or a module names is served, by this server."""
    page = board.get("/")
    assert page.headers["content-type"].startswith("text/html")
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', page.text))
    for module in STATIC.glob("*.js"):
        named |= {f"/static/{name}" for name in re.findall(r'from "\./([^"]+)"', module.read_text())}
    assert {"/vendor/uplot.js", "/static/board.js", "/static/spark.js"} <= named
    for name in named:
        assert name.startswith("/"), f"{name} is asked of somebody else"
        assert board.get(name).status == 200, name


def test_the_page_has_no_script_or_style_of_its_own_and_forbids_them(board: Served) -> None:
    """What an event says could not run even if it got into the page as markup."""
    page = board.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=", page.text)


def test_no_module_reads_a_text_as_markup() -> None:
    """Elements are made, and texts set as texts."""
    for module in STATIC.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(", module.read_text())


def test_the_charts_are_those_that_their_author_publishes() -> None:
    """The file in the wheel is the one on npm."""
    assert hashlib.sha256(charts_path().read_bytes()).hexdigest() == UPLOT_1_6_31


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"since": "2h"}, "one of 15m"),
        ({"step": "X"}, "there are funnel, since and dimensions: step: is a field of an event"),
    ],
)
def test_a_stream_that_cannot_be_is_rejected_with_what_would_be_right(
    board: Served, asked: dict[str, str], said: str
) -> None:
    """Problem details, as everywhere."""
    answer = board.get("/live", asked)
    assert answer.status == 422
    assert said in answer.json["detail"]


class Database:
    """A database with one count in each of a range's windows."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    @contextmanager
    def lend(self) -> Iterator[Any]:
        """Itself."""
        yield self

    def query(self, name: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """The rows of the only query that is asked here."""
        assert name == "read_counts"
        self.asked.append((parameters["from_ms"], parameters["to_ms"]))
        counts = dict.fromkeys(CountRow._fields, 1)
        series: dict[str, Any] = {"funnel": "f", "step": "S", "dimensions": {}}
        return [{"window_ms": start, **series, **counts} for start in range(parameters["from_ms"], T + MINUTE, MINUTE)]


def test_while_redis_does_not_answer_the_database_does_but_not_every_second() -> None:
    """The same windows, with why; asked again at once, what was read is told."""
    database = Database()
    reader = CacheReader(NOWHERE, database.lend, lambda: T + 30_000)
    found = reader.read("f", T, MINUTE)
    assert found.from_database
    assert (found.error or "").startswith("Redis cannot be used")
    assert sorted(found.windows) == [T + at * MINUTE for at in range(-15, 1)]
    assert (found.uses_redis, reader.read("f", T, MINUTE) is found) == (True, True)
    assert database.asked == [(T - 15 * MINUTE, T + 1)]
    reader.close()


def test_without_redis_the_database_is_read_every_five_seconds_and_settled_windows_every_fifteen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No error; what has settled is not read with every round; a window that was read once more shows its new count."""
    database, clock = Database(), [100.0]
    monkeypatch.setattr("funnelwatch.web.board.cache.time.monotonic", lambda: clock[0])
    reader = CacheReader(Settings(redis_url=""), database.lend, lambda: T + 30_000)
    found = reader.read("f", T, MINUTE)
    assert (found.from_database, found.uses_redis, found.error) == (True, False, None)
    for at in (101.0, 104.9, 105.0, 110.0, 114.9, 115.1):
        clock[0] = at
        assert sorted(reader.read("f", T, MINUTE).windows) == [T + at * MINUTE for at in range(-15, 1)]
    whole, newest = (T - 15 * MINUTE, T + 1), (T - MINUTE, T + 1)
    assert database.asked == [whole, newest, newest, whole]
    reader.close()


def test_windows_older_than_redis_keeps_come_from_the_database_and_that_is_no_error() -> None:
    """A pipeline that catches up with last month is shown too."""
    reader = CacheReader(NOWHERE, Database().lend, lambda: T + 30 * 86_400_000)
    found = reader.read("f", T, MINUTE)
    assert found.from_database
    assert found.error is None
    reader.close()
