"""The web applications hold their state themselves: two of them in one process share nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from http import HTTPStatus
from typing import TYPE_CHECKING

import pytest

from funnelwatch.producers.collector.app import create_app as create_collector
from funnelwatch.producers.http.problem import InvalidParameter, Problem
from funnelwatch.schemas.settings import Settings
from funnelwatch.web.app import create_app as create_board

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import FastAPI

IMPORTED = """
import os, sys
os.environ |= {"FUNNELWATCH_WINDOW_S": "no number", "FUNNELWATCH_RULES_PATH": "/no/such/rules.yml"}
import funnelwatch.web.app, funnelwatch.producers.collector.app
"""


@pytest.mark.parametrize("create", [create_collector, create_board], ids=["collector", "board"])
def test_two_apps_in_one_process_count_for_themselves(create: Callable[[Settings], FastAPI]) -> None:
    """Each application has its own settings and its own registry of metrics."""
    first, second = create(Settings(window_s=30)), create(Settings(window_s=60))
    assert (first.state.settings.window_s, second.state.settings.window_s) == (30, 60)
    assert first.state.metrics.registry is not second.state.metrics.registry


def test_importing_the_apps_reads_no_settings() -> None:
    """A wrong setting and missing rules do not matter before an application is created."""
    subprocess.run([sys.executable, "-c", IMPORTED], check=True)


def test_every_server_answers_errors_with_the_same_problem_details() -> None:
    """The body has the members of RFC 9457, with the phrase of the status as title, and names each parameter."""
    wrong = InvalidParameter(parameter="every", message="must be a multiple")
    response = Problem(422, "every: must be a multiple", errors=[wrong], retry_after_s=1.2, close=True).response()
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": HTTPStatus(422).phrase,
        "status": 422,
        "detail": "every: must be a multiple",
        "errors": [{"parameter": "every", "message": "must be a multiple"}],
    }
    headers = {name: response.headers[name] for name in ("content-type", "retry-after", "connection")}
    assert headers == {"content-type": "application/problem+json", "retry-after": "2", "connection": "close"}
