"""The collector in the process of a test, before a Kafka that takes everything at once."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from funnelwatch.producers.collector.app import create_app
from funnelwatch.producers.collector.delivery import Message
from funnelwatch.producers.collector.events import collect
from funnelwatch.producers.collector.influx import write_v1, write_v2
from funnelwatch.producers.http.problem import Problem
from funnelwatch.schemas.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fastapi import FastAPI
    from starlette.responses import Response

WAYS = {"/v1/events": collect, "/api/v2/write": write_v2, "/write": write_v1}


class FakeDelivery:
    """Takes everything at once."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def event(self, event: Mapping[str, Any]) -> Message:
        """A message."""
        return Message("events", event["sign_up_session_id"], json.dumps(event).encode())

    def metric(self, sample: Mapping[str, Any]) -> Message:
        """A message."""
        return Message("metrics", sample["name"], json.dumps(sample).encode())

    async def deliver(self, messages: Sequence[Message]) -> list[str | None]:
        """Acknowledge each."""
        self.taken += [json.loads(message.value) for message in messages]
        return [None] * len(messages)


def app_of(**settings: Any) -> FastAPI:
    """A collector without Kafka, and without limits of rate unless they are given."""
    app = create_app(Settings(**{"collector_key_rate": 0, "collector_address_rate": 0, **settings}))
    app.state.delivery = FakeDelivery()
    return app


class Asked:
    """One request, answered in this process, and how often the event loop served others meanwhile."""

    def __init__(self, app: FastAPI, address: str, body: bytes, encoding: str = "", key: str = "") -> None:
        self.turns = 0
        began = time.process_time()
        self.answer: Response | Problem = asyncio.run(self._ask(app, address, body, encoding, key))
        self.cpu_s = time.process_time() - began
        self.status = self.answer.status if isinstance(self.answer, Problem) else self.answer.status_code
        self.text = self.answer.detail if isinstance(self.answer, Problem) else bytes(self.answer.body).decode()

    async def _ask(self, app: FastAPI, address: str, body: bytes, encoding: str, key: str) -> Response | Problem:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        path, _, query = address.partition("?")
        headers = [(b"content-encoding", encoding.encode())] if encoding else []
        headers += [(b"authorization", f"Bearer {key}".encode())] if key else []
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "app": app}
        others = asyncio.create_task(self._serve_others())
        try:
            return await WAYS[path](Request({**scope, "query_string": query.encode()}, receive))
        except Problem as problem:
            return problem
        finally:
            others.cancel()

    async def _serve_others(self) -> None:
        while True:
            self.turns += 1
            await asyncio.sleep(0)
