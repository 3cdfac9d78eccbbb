"""Every kind of file is rejected with a message, for any content."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from funnelwatch.alert_rules.loader import RuleFileError, load_rules
from funnelwatch.producers.bridge.mapping import BridgeFileError, load_targets
from funnelwatch.producers.collector.keys import KeysError, load_keys
from funnelwatch.producers.collector.line_mapping import LinesFileError, load_line_mapping
from funnelwatch.producers.files.mapping import MappingFileError, load_mapping
from funnelwatch.schemas.funnels import FunnelsFileError, load_funnels
from funnelwatch.schemas.settings import Settings
from funnelwatch.schemas.yaml_files import Document
from funnelwatch.sinks.alerts.routes import RoutesFileError, load_routes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def keys_of(path: Path) -> object:
    """The collector's keys of a file."""
    return load_keys(Settings(collector_keys_path=path))


@pytest.mark.parametrize(
    "content",
    [
        *(b"[" * 1_000, b"\xff\xfe\xff", b"{a: b", b"", b"a: 2026-02-30", b"a: 2026-01-05T12:00:60Z"),
        *(b"a: " + b"9" * 5_000, b"a: !!int x", b"a: !!float ''", b"a: !!set x", b"<<: &x {<<: *x}"),
    ],
    ids=[
        *("too-deep", "bytes", "open", "empty", "no-day", "leap-second", "too-long", "no-int", "no-float", "no-set"),
        "within-itself",
    ],
)
@pytest.mark.parametrize(
    ("load", "error"),
    [
        (load_rules, RuleFileError),
        (load_funnels, FunnelsFileError),
        (load_targets, BridgeFileError),
        (keys_of, KeysError),
        (load_line_mapping, LinesFileError),
        (load_mapping, MappingFileError),
        (load_routes, RoutesFileError),
    ],
    ids=["rules", "funnels", "bridge", "keys", "lines", "mapping", "routes"],
)
def test_a_file_that_is_no_yaml_is_rejected_by_name(
    tmp_path: Path, load: Callable[[Path], object], error: type[Exception], content: bytes
) -> None:
    """Nested beyond what can be read, no text, broken or empty: the error of that kind of file, which names it."""
    path = tmp_path / "mine.yml"
    path.write_bytes(content)
    with pytest.raises(error, match=r"mine\.yml"):
        load(path)


def test_a_file_nested_20_000_levels_deep_is_rejected_by_name() -> None:
    """The parser that all kinds of files share ends, whatever the depth."""
    with pytest.raises(RuleFileError, match=r"mine\.yml: YAML: is nested too deeply"):
        Document.parse("[" * 20_000, "mine.yml", RuleFileError)


def test_an_impossible_time_is_rejected_by_line_without_its_value(tmp_path: Path) -> None:
    """It may be a secret: a password of digits and dashes looks like a date to YAML."""
    path = tmp_path / "mine.yml"
    path.write_text("routes:\n  - name: x\n    password: 2026-13-31\n")
    with pytest.raises(RoutesFileError, match=r"mine\.yml:3: .*month must be in 1\.\.12") as told:
        load_routes(path)
    assert "2026-13-31" not in str(told.value)
