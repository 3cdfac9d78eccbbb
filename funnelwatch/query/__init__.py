"""Questions about rates, times and metrics, and their answers: pure functions of a database and a query."""
