"""Grafana dashboards as code: `python -m scripts.dashboards` writes the JSON that is deployed."""
