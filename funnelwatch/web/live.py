"""``GET /live``: the figures of the board, as server-sent events.

| event | data |
|---|---|
| ``now`` | each step, and each os of it, in the newest closed windows against what is expected; open windows apart |
| ``history`` | the time line: counts, rates, intervals and expected rates by span |
| ``alerts`` | the alerts that fire or fired within a day, newest first, with their where |
| ``health`` | lag, watermark, throughput, dead letters, and servers that do not answer |
| ``beat`` | the server's clock, every two seconds |

It serves the board and may change with it; programs read ``/api/v1``.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from funnelwatch.web.board.query import BoardQuery
from funnelwatch.web.board.stream import EventStream

router = APIRouter(include_in_schema=False)


@router.get("/live")
async def live(request: Request) -> Response:
    """The stream for one page; its filters are the page's own."""
    state = request.app.state
    address = request.client.host if request.client else ""
    query = BoardQuery.parse(dict(request.query_params))
    state.hub.admit(query, address)
    return EventStream(state.hub, query, state.stopping, address=address)
