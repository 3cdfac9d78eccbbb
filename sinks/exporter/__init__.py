"""Funnel counts for Prometheus: counters, histograms of durations, current rates."""
