"""Grafana: dashboards as code, which ``python -m funnelwatch.deploy.grafana`` writes as JSON into ``dashboards/``.

Making them needs the development dependencies; Grafana itself needs only the JSON and ``provisioning/``. See
docs/grafana.md.
"""
