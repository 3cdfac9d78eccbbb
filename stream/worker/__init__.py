"""A worker process: its components, health, metrics and web port."""
