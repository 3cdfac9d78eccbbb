"""The hot copy of recent windows in Redis."""
