"""Every drill, by name."""

from __future__ import annotations

from funnelwatch.drills.crashes import KILL
from funnelwatch.drills.inputs import DISORDER, DUPLICATES, POISON
from funnelwatch.drills.outages import DATABASE, REDIS

DRILLS = {drill.name: drill for drill in (KILL, DATABASE, REDIS, POISON, DUPLICATES, DISORDER)}
"""In the order in which all of them are run."""
