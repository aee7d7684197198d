"""Evaluations of REaaS through its public SDK."""
