"""The times of the demo's events."""

from __future__ import annotations

import json
from dataclasses import dataclass

from funnelwatch.producers.simulate.profile import SIGN_UP_PROFILE, Profile

STEP = "VERIFY_SMS_CODE"
OS = "iOS"


@dataclass(frozen=True, slots=True)
class Plan:
    """The demo's course.

    Attributes:
        history_days: backfilled before it starts; more than a week, so that the baseline knows each minute of the week.
        history_rate: sessions a minute of the history: thin, so that it is there in seconds.
        live_rate: sessions a minute from then on.
        window_s: length of a window.
        normal_s: all is well for at least this long, once the pipeline has caught up.
        incident_s: how long verification by SMS fails on iOS.
        loss: share of its successes that are lost.
        resolve_s: how long the recovery may take to be noticed.
        garbage: records that are no events, mixed in.
        seed: of the traffic.
        profile: the funnel and its people.
    """

    history_days: float = 8.0
    history_rate: float = 5.0
    live_rate: float = 800.0
    window_s: int = 30
    normal_s: float = 45.0
    incident_s: float = 120.0
    loss: float = 0.6
    resolve_s: float = 420.0
    garbage: int = 12
    seed: int = 7
    profile: Profile = SIGN_UP_PROFILE

    @property
    def funnels(self) -> str:
        """The content of a funnels file that declares the funnel with its further dimensions."""
        declared = {"steps": [step.name for step in self.profile.steps], "dimensions": [*self.profile.values]}
        return json.dumps({"funnels": {self.profile.funnel: declared}}, indent=2)

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the workers for this demo: windows as above, quick to close and to take over."""
        return {
            "FUNNELWATCH_WINDOW_S": str(self.window_s),
            "FUNNELWATCH_ALLOWED_DISORDER_S": "3",
            "FUNNELWATCH_SESSION_TIMEOUT_S": "6",
            "FUNNELWATCH_CACHE_HORIZON_S": "3600",
        }
