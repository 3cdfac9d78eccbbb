"""Notifies people and their systems of alerts: routes, one route worker each, and a log of messages."""
