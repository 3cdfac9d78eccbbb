"""Events from files: CSV and JSON Lines, by a mapping, acknowledged by Kafka."""
