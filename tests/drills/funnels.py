"""The funnels of a drill: the file of its workers, and the same for the reference."""

from __future__ import annotations

from tests.drills.events import OTHER_DIMENSIONS, OTHER_FUNNEL, OTHER_STEPS, STEPS
from tests.drills.ledger import DIMENSIONS
from tests.reference.sessions import Funnel


def declared_funnels(session_window_ms: int, *, all_declared: bool) -> dict[str, Funnel]:
    """The declared funnels of a drill; the other one is an undeclared funnel unless all are declared."""
    funnels = {"sign_up": Funnel(STEPS, DIMENSIONS, session_window_ms)}
    if all_declared:
        funnels[OTHER_FUNNEL] = Funnel(OTHER_STEPS, OTHER_DIMENSIONS, session_window_ms)
    return funnels


def funnels_file(session_window_ms: int, *, all_declared: bool) -> str:
    """The YAML file of the workers.

    An undeclared funnel has a session window of an hour: a new owner of a partition reads the drill's whole log again.
    Where all funnels are declared and others are rejected, it reads only a part.
    """
    lines = ["funnels:"]
    for name, funnel in declared_funnels(session_window_ms, all_declared=all_declared).items():
        lines += [
            f"  {name}:",
            f"    steps: [{', '.join(funnel.steps)}]",
            f"    dimensions: [{', '.join(funnel.dimensions)}]",
            f"    session_window: {session_window_ms / 1000:g}s",
        ]
    return "\n".join([*lines, f"undeclared: {'reject' if all_declared else 'accept'}", ""])
