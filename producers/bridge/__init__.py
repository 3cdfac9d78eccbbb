"""A bridge from another app's ``/metrics`` into funnel events and counters."""
