"""The cache of recent windows in Redis."""
