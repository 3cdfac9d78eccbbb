"""A registry of metrics for one process: its own CPU, memory and files, Python's version, and nothing of others.

Each kind of process has a registry of its own. With one for all, a module that two programs import would show the
worker's gauges as zeros at the notifier, and a zero is what a healthy worker shows.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector


def process_registry() -> CollectorRegistry:
    """A registry that shows ``process_*``, ``python_info`` and ``python_gc_*`` of this process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
