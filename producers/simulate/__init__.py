"""Simulated traffic with known conversion and incidents."""
