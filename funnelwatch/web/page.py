"""``GET /``: the board's page, the same for everybody; ``GET /live``: its figures as server-sent events.

| event | data |
|---|---|
| ``now`` | each step, and each os of it, in the newest closed windows against what is expected; open windows apart |
| ``history`` | the time line: counts, rates, intervals and expected rates by span |
| ``people`` | the funnel of people: how far the sessions came, and the rates of steps by sessions and by events |
| ``alerts`` | the alerts that fire or fired within a day, newest first, with their where |
| ``health`` | lag, watermark, throughput, dead letters, and servers that do not answer |
| ``beat`` | the server's clock, every two seconds |

``/live`` serves the board and may change with it; programs read ``/api/v1``.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import files as files_of
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse

from funnelwatch.web.board.query import BoardQuery
from funnelwatch.web.board.stream import EventStream

router = APIRouter(include_in_schema=False)

STATIC = Path(__file__).parent / "static"
CHARTS = "youplot/vendor/uplot.iife.min.js"
"""uPlot as its author publishes it, in the wheel ``youplot``; no other part of that is used."""


@router.get("/")
def page() -> FileResponse:
    """The page; it asks for nothing from elsewhere."""
    return FileResponse(STATIC / "board.html", headers={"cache-control": "no-cache"})


@router.get("/vendor/uplot.js")
def charts() -> FileResponse:
    """The chart library."""
    return FileResponse(charts_path(), media_type="text/javascript", headers={"cache-control": "max-age=3600"})


@lru_cache(maxsize=1)
def charts_path() -> Path:
    """Where the chart library's file is.

    Raises:
        FileNotFoundError: the wheel does not have it.
    """
    for file in files_of("youplot") or []:
        if file.as_posix() == CHARTS:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"the package youplot has no {CHARTS}; install what requirements.lock names")


@router.get("/live")
async def live(request: Request) -> Response:
    """The stream for one page; its filters are the page's own."""
    state = request.app.state
    address = request.client.host if request.client else ""
    query = BoardQuery.parse(dict(request.query_params))
    state.hub.admit(query, address)
    return EventStream(state.hub, query, state.stopping, address=address)
