"""Kafka clients and topics: properties, creation, reading a topic to its end, quieter logs."""
