"""Drills: real servers, real workers, known events, faults from a seed, and a comparison key by key."""
