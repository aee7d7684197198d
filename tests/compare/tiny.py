"""A comparison that takes seconds."""

from __future__ import annotations

from reaas.compare import CompareConfig

# Everything small; only the shape of the comparison is that of the demo.
CONFIG = CompareConfig(
    encoder="tiny",
    twin="twin",
    feature_votes=500,
    feature_sigmas=(0.5, 1.0),
    sigmas=(0.1, 0.3),
    budgets=(20, 50),
    record_inputs=3,
    record_votes=300,
    batch_inputs=100,
)
