"""Stubs generated from `protos/reaas/v1` by `make protos`; do not edit."""
