"""What the board shows, as server-sent events."""

from __future__ import annotations

from fastapi import APIRouter

router = APIRouter(include_in_schema=False)
