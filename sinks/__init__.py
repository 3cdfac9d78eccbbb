"""What stores or delivers: TimescaleDB, Redis, alert routes."""
