"""Stores and receivers: TimescaleDB, Redis, alert routes."""
