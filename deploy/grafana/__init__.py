"""Grafana: dashboards as code. ``funnelwatch grafana dashboards`` writes their JSON for the dimensions of a deployment.

Making them needs the extra ``grafana``; Grafana itself needs only the JSON and ``provisioning/``. See docs/grafana.md.
"""
