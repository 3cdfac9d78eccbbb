"""How soon an event can be seen, and how soon an alert is out: ``make bench-latency``."""
