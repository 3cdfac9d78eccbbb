"""From validated batches to counts in the database and the cache."""
