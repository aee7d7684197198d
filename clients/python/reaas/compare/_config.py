"""What a comparison measures."""

from __future__ import annotations

from dataclasses import dataclass

from reaas.certify import VoteBudget


@dataclass(frozen=True)
class CompareConfig:
    """Settings of one comparison; the same for all schemes where they can be the same."""

    encoder: str = "moco-sn"
    """Model that both schemes query."""

    twin: str | None = None
    """A second encoder for which the REaaS rows are measured too; None: none."""

    f2i_method: str = "auto"
    """Bound behind F2IPerturb for balls. AUTO takes the largest radius of all bounds; `lipschitz`
    is free and nearly as good on an encoder trained for it."""

    twin_f2i_method: str = "lipschitz"
    """The same for the twin. On an encoder without a spectral-norm term AUTO tries CROWN on almost
    every input, a second each, and seldom finds more: on 10 of 10 CIFAR-10 images nothing."""

    margin_f2i_method: str = "auto"
    """The same for margins: AUTO costs about a tenth of a second an input, and certifies clearly
    more than their `lipschitz`."""

    twin_margin_f2i_method: str = "envelope"
    """The same for the twin, where AUTO would spend seconds an input on CROWN."""

    seed: int = 1
    """Of the noise, the heads and the held-out part of the training inputs."""

    hidden: tuple[int, ...] = ()
    """Hidden layers of every downstream classifier. None: the linear head that evaluations of
    pre-trained encoders use, on which CROWN and IBP are both exact."""

    alpha: float = 0.001
    """Failure probability of a smoothed certificate, for each input (Cohen et al.)."""

    feature_votes: int = 100_000
    """n of REaaS SC (n0 is 100): Cohen et al.'s, since noise on the feature costs no query."""

    feature_sigmas: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0)
    """Grid of REaaS SC's noise, in units of the training features' spread per coordinate;
    the best one is chosen on held-out training inputs."""

    sigmas: tuple[float, ...] = (0.12, 0.25, 0.5, 0.75)
    """Grid of SEaaS's noise on the image; each is a row, and the best should lie inside. It is
    chosen on the test inputs, which favours the baseline."""

    copies: int = 25
    """Noisy copies of a training input (SEaaS), the talk's number."""

    budgets: tuple[int, ...] = (20, 50, 100, 300, 1000)
    """n of SEaaS's curve, ascending; n0 is a tenth. All come from one set of noisy votes. The last
    is the row's."""

    record_inputs: int = 0
    """Testing inputs on which SEaaS is also run with `record_votes`, for the record; 0: none."""

    record_votes: int = 100_000
    """n of that run (n0 is 100): Cohen et al.'s."""

    batch_inputs: int = 512
    """Noisy images of one Encode call: 6 MB at 32x32x3, far below the services' limit."""

    in_flight: int = 3
    """Encode calls at once: one in work on each of two cores, one on its way."""

    def __post_init__(self) -> None:
        if not self.budgets or list(self.budgets) != sorted(set(self.budgets)):
            raise ValueError(f"budgets is {self.budgets}; ascending numbers of votes are needed")
        if self.budgets[0] < 1:
            raise ValueError(f"budgets begins with {self.budgets[0]}; at least 1 vote is needed")
        if not self.sigmas or min(self.sigmas) <= 0.0 or len(set(self.sigmas)) < len(self.sigmas):
            raise ValueError(f"sigmas is {self.sigmas}; different positive noise levels are needed")
        if not 0.0 < self.alpha < 0.5:
            raise ValueError(f"alpha is {self.alpha}; it must lie between 0 and 0.5")

    @property
    def curve(self) -> tuple[VoteBudget, ...]:
        """The budgets of SEaaS's curve."""
        return tuple(VoteBudget(n) for n in self.budgets)
