"""``GET /``: the board's page. It is the same for everybody; what it shows comes from ``/live``."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import files as files_of
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse

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
