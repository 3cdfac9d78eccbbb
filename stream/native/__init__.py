"""The hot path in C: from bytes to rows of events, duplicates, counts; loaded by ctypes, which releases the GIL."""
