"""Processor time and memory of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database


class Usage:
    """What a process used since it began; to be looked at until it ends."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = 0.0
        self._cpu_s = 0.0
        self.memory_mb = 0.0
        self.look()
        self.begin()

    def begin(self) -> None:
        """What was used so far does not count."""
        self._before = self._cpu_s

    @property
    def cpu_s(self) -> float:
        """Processor time since it began, s."""
        return self._cpu_s - self._before

    def look(self) -> None:
        """Look once."""
        try:
            with self._process.oneshot():
                times = self._process.cpu_times()
                self._cpu_s = times.user + times.system
                self.memory_mb = max(self.memory_mb, self._process.memory_info().rss / 1e6)
        except psutil.Error:
            pass  # it has ended; what was seen before stands


def server_s(database: Database) -> float:
    """Processor time that a database's server on this machine has used with all its backends, ended ones too, s."""
    with database.outside_transaction() as cursor:
        [row] = cursor.execute("SELECT pg_backend_pid() AS pid").fetchall()
    postmaster = psutil.Process(row["pid"]).parent()
    assert postmaster is not None
    own = postmaster.cpu_times()
    total = own.user + own.system + own.children_user + own.children_system
    for backend in postmaster.children():
        try:
            times = backend.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return float(total)
