"""Queries about rates, times to convert and metrics: functions of a database and a query."""
