"""From Kafka to validated batches: fetching, start offsets, validation, duplicates, dead letters."""
