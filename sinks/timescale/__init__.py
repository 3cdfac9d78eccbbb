"""The counts of record: TimescaleDB, or plain PostgreSQL with the same names."""
