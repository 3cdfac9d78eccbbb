"""A registry of metrics for one process: its own CPU, memory, files and Python version.

Each kind of process has a registry of its own. With a shared registry, a module that two programs import would export
the worker's gauges as zeros from the notifier, and zero is the value of a healthy worker.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector


def process_registry() -> CollectorRegistry:
    """A registry with ``process_*``, ``python_info`` and ``python_gc_*`` of this process."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
