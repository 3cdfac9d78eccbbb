"""Kafka to Kafka: intake, aggregation, closing of windows, detection."""
