"""Locks of the database are of one schema, so that two deployments in a database do not wait for each other."""

from __future__ import annotations

import re

import pytest

from funnelwatch.sinks.timescale.queries import QUERIES

KEY = re.compile(r"hashtextextended\(('[^']+'[^,]*), (.+?)\)(?=\)| AS|,|$)", re.MULTILINE)
OF_THE_SCHEMA = "to_regclass('deployment')::oid::bigint"
BEFORE_THERE_ARE_TABLES = {"lock_migrations"}


@pytest.mark.parametrize("name", sorted(name for name, text in QUERIES.items() if "hashtextextended(" in text))
def test_the_key_of_every_advisory_lock_is_of_the_schema(name: str) -> None:
    """All but that of the migrations, which is taken before there is a table."""
    keys = KEY.findall(QUERIES[name])
    assert keys
    assert {seed for _, seed in keys} == ({"0"} if name in BEFORE_THERE_ARE_TABLES else {OF_THE_SCHEMA})
