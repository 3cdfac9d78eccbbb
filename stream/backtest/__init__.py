"""Alert rules over history: what they would have raised, held against incidents that are known."""
