"""What doctor says about rights in the database."""

from __future__ import annotations

from typing import Any

import pytest

from funnelwatch.cli.doctor_database import rights_findings

FINE: dict[str, Any] = {
    "role": "app",
    "schema": "funnel",
    "tables": True,
    "may_create": True,
    "reader": True,
    "reader_may_read": True,
    "extension": False,
    "extension_available": False,
    "plain_tables": True,
}


@pytest.mark.parametrize(
    ("changes", "level", "said"),
    [
        ({}, "ok", "app uses the schema funnel"),
        ({"schema": None}, "FAILED", "CREATE SCHEMA funnelwatch AUTHORIZATION app"),
        ({"tables": False, "may_create": False}, "warning", "may not make tables in the schema funnel"),
        ({"tables": False}, "ok", "app uses the schema funnel"),
        ({"may_create": False}, "ok", "app uses the schema funnel"),
        ({"reader": False, "reader_may_read": None}, "ok", "CREATE ROLE funnelwatch_reader NOLOGIN"),
        ({"reader_may_read": False}, "warning", "funnelwatch_reader may not read the tables in funnel"),
        ({"extension_available": True}, "warning", "CREATE EXTENSION timescaledb"),
        ({"extension": True, "extension_available": True, "plain_tables": False}, "ok", "app uses"),
    ],
)
def test_rights_are_told_with_what_an_administrator_runs(changes: dict[str, Any], level: str, said: str) -> None:
    """Only what keeps somebody from working is more than a remark."""
    found = list(rights_findings(FINE | changes))
    assert any(said in f"{one.message}. {one.advice}" for one in found), found
    worst = max((one.level for one in found), key=["ok", "warning", "FAILED"].index)
    assert worst == level
