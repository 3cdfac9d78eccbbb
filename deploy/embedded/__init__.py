"""Kafka, Redis and PostgreSQL on this machine, without Docker."""
