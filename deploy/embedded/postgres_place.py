"""Where PostgreSQL runs and as whom: it refuses to run as root.

As an ordinary user everything is in the data folder. As root the server runs as an unprivileged user that exists
already (``postgres`` or ``nobody``; no user is added). That user may not be able to reach the data folder or the
wheel's programs, as below ``/root``: then they are kept in a folder of root's own below ``/var/lib/funnelwatch``, whose
path is left in the data folder. The permissions of folders that are not ours are never touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from funnelwatch.deploy.embedded.errors import StackError

POINTER = "postgres.place"
OUTSIDE = (Path("/var/lib/funnelwatch"), Path("/var/tmp/funnelwatch"))  # noqa: S108 - made by root, checked below
USERS = ("postgres", "nobody")


@dataclass(frozen=True)
class Place:
    """A folder for PostgreSQL and the user who runs it."""

    folder: Path
    """Holds ``data`` and, where it had to be copied, the server's programs."""
    user: tuple[int, int] | None
    """uid and gid to run as; None: as ourselves."""

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.folder / "data"

    def can(self, *args: str | Path) -> bool:
        """Whether the user can run this program successfully."""
        try:
            done = subprocess.run(  # noqa: S603 - our own programs
                args,
                cwd="/",
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=30,
                check=False,
                user=self.user[0] if self.user else None,
                group=self.user[1] if self.user else None,
                extra_groups=[] if self.user else None,
            )
        except (OSError, subprocess.SubprocessError):
            return False
        return done.returncode == 0


def find_place(data_dir: Path) -> Place:
    """The place of this data folder, made if it is not there.

    Raises:
        StackError: no unprivileged user can run PostgreSQL here.
    """
    inside = data_dir / "postgres"
    if os.geteuid() != 0:
        inside.mkdir(parents=True, exist_ok=True)
        _check_owner(inside / "data", os.geteuid())
        return Place(inside, None)
    existing = existing_outside(data_dir)
    if existing is not None:
        return Place(existing, _user(existing / "data"))
    user = _user(inside / "data")
    inside.mkdir(parents=True, exist_ok=True)
    os.chown(inside, *user)
    place = Place(inside, user)
    if place.can("/bin/sh", "-c", 'cd -- "$0" && test -w .', inside):
        return place
    name = pwd.getpwuid(user[0]).pw_name
    if (inside / "data").exists():
        raise StackError(
            f"PostgreSQL cannot run as root, and the user {name} cannot reach {inside / 'data'} any more: let others "
            f"pass through its parent folders again (chmod o+x), or start afresh with `funnelwatch down --purge`."
        )
    with contextlib.suppress(OSError):
        inside.rmdir()
    return Place(_make_outside(data_dir, user), user)


def existing_outside(data_dir: Path) -> Path | None:
    """The folder outside that this data folder points to, if there is one."""
    try:
        folder = Path((data_dir / POINTER).read_text().strip())
    except OSError:
        return None
    return folder if folder.is_dir() and folder == _outside(folder.parent, data_dir) else None


def remove(data_dir: Path) -> None:
    """Delete PostgreSQL's data and programs, inside and outside."""
    folder = existing_outside(data_dir)
    if folder is not None:
        shutil.rmtree(folder)
        _owner(folder).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others use it
            folder.parent.rmdir()
    (data_dir / POINTER).unlink(missing_ok=True)
    shutil.rmtree(data_dir / "postgres", ignore_errors=True)


def _outside(parent: Path, data_dir: Path) -> Path:
    return parent / hashlib.sha256(str(data_dir).encode()).hexdigest()[:16]


def _owner(folder: Path) -> Path:
    """Beside a folder outside: which data folder it belongs to, and on which disk that was."""
    return folder.with_suffix(".json")


def _sweep(parent: Path) -> None:
    """Delete the folders of data folders that were deleted by hand; one on a disk that is not mounted is spared."""
    for owner in parent.glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            record = json.loads(owner.read_text())
            data_dir = existing = Path(record["data_dir"])
            while not existing.exists():
                existing = existing.parent
            folder = owner.with_suffix("")
            in_use = (folder / "data" / "postmaster.pid").exists()
            if existing != data_dir and existing.stat().st_dev == record["device"] and not in_use:
                shutil.rmtree(folder, ignore_errors=True)
                owner.unlink()


def _make_outside(data_dir: Path, user: tuple[int, int]) -> Path:
    errors = []
    for parent in OUTSIDE:
        folder = _outside(parent, data_dir)
        try:
            parent.mkdir(mode=0o755, exist_ok=True)
            parent.chmod(0o755)  # whatever the umask
            status = parent.lstat()
            if parent.is_symlink() or status.st_uid != 0:
                raise PermissionError(0, "it is not root's own folder")
            _sweep(parent)
            if folder.exists():  # of a data folder of this path that was deleted: its data are not this one's
                shutil.rmtree(folder)
            folder.mkdir()
            os.chown(folder, *user)
            folder.chmod(0o700)
            if not Place(folder, user).can("/bin/sh", "-c", 'cd -- "$0" && test -w .', folder):
                raise PermissionError(0, f"uid {user[0]} cannot write there")
        except OSError as error:
            errors.append(f"{folder}: {error.strerror or error}")
            continue
        _owner(folder).write_text(json.dumps({"data_dir": str(data_dir), "device": data_dir.stat().st_dev}))
        (data_dir / POINTER).write_text(f"{folder}\n")
        return folder
    raise StackError(
        f"PostgreSQL cannot run as root, and uid {user[0]} can reach neither the data folder {data_dir} nor a "
        f"replacement ({'; '.join(errors)}). Run funnelwatch as an ordinary user, or choose a data folder that others "
        "can pass through with FUNNELWATCH_DATA_DIR."
    )


def _user(data: Path) -> tuple[int, int]:
    """The owner of the data if there are any, else the first unprivileged user that the machine has."""
    with contextlib.suppress(OSError, KeyError):
        owner = data.stat().st_uid
        if owner != 0:
            return owner, pwd.getpwuid(owner).pw_gid
    for name in USERS:
        with contextlib.suppress(KeyError):
            record = pwd.getpwnam(name)
            return record.pw_uid, record.pw_gid
    raise StackError(
        f"PostgreSQL cannot run as root, and this machine has no user {' or '.join(USERS)}: run funnelwatch as an "
        "ordinary user, or name a running server with FUNNELWATCH_TIMESCALE_URL."
    )


def _check_owner(data: Path, uid: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        owner = data.stat().st_uid
        if owner != uid:
            raise StackError(
                f"{data} belongs to another user (uid {owner}, this is {uid}): run funnelwatch as that user, or choose "
                "another data folder with FUNNELWATCH_DATA_DIR."
            )
