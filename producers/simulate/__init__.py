"""Made-up traffic with a known conversion and known incidents."""
