"""Every drill, by name."""

from __future__ import annotations

from tests.drills.crashes import KILL, REBALANCE, ZOMBIE
from tests.drills.inputs import DISORDER, DUPLICATES, POISON
from tests.drills.outages import BROKER, DATABASE, REDIS, REGISTRY, SLOW_DATABASE

DRILLS = {
    drill.name: drill
    for drill in (
        KILL,
        REBALANCE,
        ZOMBIE,
        BROKER,
        DATABASE,
        REDIS,
        POISON,
        DUPLICATES,
        DISORDER,
        SLOW_DATABASE,
        REGISTRY,
    )
}
"""In the order in which all of them are run."""
