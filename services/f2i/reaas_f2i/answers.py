"""What F2I answered, as metrics: radii, the bounds that won, and the steps they took."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Histogram
from reaas_bounds import MarginMethod, Method
from reaas_runtime import Meter

from reaas_f2i.targets import Answer

_METHODS: dict[str, type[Method] | type[MarginMethod]] = {"ball": Method, "margins": MarginMethod}
_OF = ("model", "target", "method")
# From below one grey level of one pixel (1/255) to what no certified encoder reaches.
_RADII = (0, 0.001, 0.003, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1, 1.5, 2, 4)
_STEPS = (0, 1, 2, 4, 8, 16, 32, 64)


class AnswerMetrics:
    """Answers by model, target (ball or margins) and the method that certified the radius."""

    def __init__(self, meter: Meter) -> None:
        registry = meter.registry
        self._answers = Counter(
            "reaas_f2i_answers", "Radii answered.", (*_OF, "converged"), registry=registry
        )
        self._radius = Histogram(
            "reaas_f2i_radius",
            "Certified image-space radius, L2, pixels in [0,1].",
            _OF,
            registry=registry,
            buckets=_RADII,
        )
        self._steps = Histogram(
            "reaas_f2i_steps",
            "Bound evaluations of an answer.",
            _OF,
            registry=registry,
            buckets=_STEPS,
        )

    def begin_at_zero(self, models: Iterable[str]) -> None:
        """Expose every answer that these models may give, so that `increase` sees the first."""
        for model in models:
            for target, methods in _METHODS.items():
                for method in set(methods) - {methods.AUTO}:  # AUTO names the bound that won.
                    labels = (model, target, method.value)
                    self._radius.labels(*labels)
                    self._steps.labels(*labels)
                    for converged in ("true", "false"):
                        self._answers.labels(*labels, converged)

    def count(self, model: str, target: str, answers: Iterable[Answer]) -> None:
        """Count answers as they are sent."""
        for answer in answers:
            labels = (model, target, answer.method.value)
            self._answers.labels(*labels, str(answer.converged).lower()).inc()
            self._radius.labels(*labels).observe(answer.radius)
            self._steps.labels(*labels).observe(answer.steps)
