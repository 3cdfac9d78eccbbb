"""Telling people and their systems of alerts: routes, one lane each, and a log of what was said."""
