"""Avro schemas of the four topics, their codec and their compatibility check."""
