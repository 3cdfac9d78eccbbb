"""What the database knows of the pipeline as a whole, for the one worker that watches it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from funnelwatch.schemas.pipeline import PartitionSnapshot
from funnelwatch.sinks.timescale.closing import IDLE_VALID_S

if TYPE_CHECKING:
    from funnelwatch.sinks.timescale.database import Database


class PipelineStore:
    """Looks at the pipeline; for one thread at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def is_monitor(self, topic: str) -> bool:
        """Whether this session is the one that watches the pipeline of this topic; it stays so until it ends.

        A session that ends, and its lock with it, is made anew by the next question, which then asks for the lock.
        """
        if self._database.query("have_monitor_lock", {"topic": topic})[0]["held"]:
            return True
        locked: bool = self._database.query("try_monitor_lock", {"topic": topic})[0]["locked"]
        return locked

    def look(self, topic: str) -> dict[int, PartitionSnapshot]:
        """What is known of each partition that was ever assigned."""
        rows = self._database.query("pipeline_look", {"topic": topic, "idle_valid_s": IDLE_VALID_S})
        return {
            row["partition"]: PartitionSnapshot(
                row["next_offset"], row["counted"], row["rejected"], bool(row["idle"]), row["undeclared"]
            )
            for row in rows
        }
