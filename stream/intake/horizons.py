"""How far before its start a partition is read, for the ids and the sessions of what is counted already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from funnelwatch.stream.intake.duplicates import SeenIds
from funnelwatch.stream.intake.sessions import Sessions

if TYPE_CHECKING:
    from funnelwatch.schemas.funnels import DeclaredFunnels
    from funnelwatch.schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class ReadingHorizons:
    """What is remembered of the records before a place.

    Attributes:
        duplicates_ms: ids are remembered for this long, ms.
        session_ms: the longest session window, ms; 0: sessions are not counted.
        max_sessions: sessions of a partition that are remembered at least, once they are so many.
    """

    duplicates_ms: int
    session_ms: int = 0
    max_sessions: int = 0

    @classmethod
    def of(cls, settings: Settings, funnels: DeclaredFunnels) -> ReadingHorizons:
        """Those of a worker that counts events."""
        session_ms = funnels.longest_session_ms if settings.count_sessions else 0
        return cls(int(settings.duplicate_horizon_s * 1000), session_ms, settings.max_sessions)

    @property
    def behind_ms(self) -> int:
        """How far before a place the log must be read, by Kafka's timestamps, ms."""
        return self.duplicates_ms + 2 * self.session_ms

    def memory(self) -> tuple[SeenIds, Sessions | None]:
        """Ids and sessions of a partition, of which nothing is read yet."""
        return SeenIds(self.duplicates_ms), Sessions(self.session_ms, self.max_sessions) if self.session_ms else None
