"""Avro schemas of the topics, their codec and their compatibility check."""
