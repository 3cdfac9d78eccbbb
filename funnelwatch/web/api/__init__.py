"""The query API, below ``/api/v1``; ``/api/v1/openapi.json`` describes it."""
