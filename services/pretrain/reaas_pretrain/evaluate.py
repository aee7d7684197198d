"""What features are worth: k-NN and linear-probe accuracy, and the radius a constant certifies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize, one_hot

from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.images import LabelledImages

PROBE_NOISE = (0.0, 1.0, 2.0, 4.0)
"""Feature noise, in deviations of the features, that a client may try for its head."""
STANDARD_RADIUS = 36 / 255
"""The radius at which certified accuracy on CIFAR-10 is usually given."""


@dataclass(frozen=True)
class Judge:
    """A labelled data set that features are judged by."""

    name: str
    train: LabelledImages
    test: LabelledImages

    def head(self, train: int, test: int) -> Judge:
        """The same with the first images only."""
        return Judge(self.name, self.train.head(train), self.test.head(test))


@torch.no_grad()
def encode(encoder: ConvEncoder, images: Tensor, batch: int = 500) -> Tensor:
    """Features `[n, d]` float32 of images `[n, 3, h, w]` uint8, on the CPU wherever they are."""
    was_training, device = encoder.training, encoder.mean.device
    encoder.eval()
    parts = torch.split(images, batch)
    features = [encoder(part.to(device).float() / 255).cpu() for part in parts]
    encoder.train(was_training)
    return torch.cat(features)


def knn_accuracy(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, neighbours: int = 20
) -> float:
    """Top-1 of a cosine k-NN vote on centred features (Wu et al. 2018, weights exp(s / 0.07))."""
    centre = train.mean(0)
    similarity = normalize(test - centre, dim=1) @ normalize(train - centre, dim=1).T  # [m, n]
    weights, index = similarity.topk(neighbours, dim=1)
    votes = one_hot(train_labels[index]) * (weights / 0.07).exp().unsqueeze(2)  # [m, k, classes]
    return float((votes.sum(1).argmax(1) == test_labels).float().mean())


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on features: `z W^T + b`, W `[classes, d]`."""

    weight: Tensor
    bias: Tensor

    def margins(self, features: Tensor, labels: Tensor) -> Tensor:
        """`[n]` distances to the nearest decision surface, L2 in feature space, < 0 if wrong."""
        logits = features @ self.weight.T + self.bias  # [n, classes]
        own = logits.gather(1, labels.unsqueeze(1))
        distance = torch.cdist(self.weight[labels], self.weight)  # [n, classes]
        ratio = (own - logits) / distance.clamp_min(1e-12)
        return ratio.scatter(1, labels.unsqueeze(1), torch.inf).amin(1)

    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """Share of features `[n, d]` whose highest logit is their label."""
        return float(((features @ self.weight.T + self.bias).argmax(1) == labels).float().mean())


def train_probe(
    features: Tensor, labels: Tensor, noise: float = 0.0, steps: int = 400, seed: int = 0
) -> LinearProbe:
    """Multinomial logistic regression on features `[n, d]`, by Adam on whitened inputs.

    `noise` is the deviation of Gaussian noise added to every coordinate, in units of the features'
    own: it widens the margins, hence the radii. Whitening (of the noisy features) only speeds
    training up; it is folded into the weights, so margins are in the features' own space.
    """
    generator = torch.Generator().manual_seed(seed)
    centre = features.mean(0)
    scale = float((features - centre).square().mean().sqrt().clamp_min(1e-12))
    inputs = (features - centre) / scale  # [n, d]
    whitening = _whitening(inputs, noise)  # [d, d]
    weight = torch.zeros(int(labels.max()) + 1, inputs.shape[1], requires_grad=True)
    bias = torch.zeros(len(weight), requires_grad=True)
    optimiser = torch.optim.Adam([weight, bias], lr=0.03)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        pick = torch.randint(len(inputs), (500,), generator=generator)
        noisy = inputs[pick] + noise * torch.randn(len(pick), inputs.shape[1], generator=generator)
        loss = cross_entropy(noisy @ whitening @ weight.T + bias, labels[pick])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        folded = weight @ whitening / scale  # [classes, d]
        return LinearProbe(folded, bias - folded @ centre)


def _whitening(inputs: Tensor, noise: float) -> Tensor:
    """Inverse square root of the covariance of centred inputs `[n, d]` plus noise, `[d, d]`."""
    values, vectors = torch.linalg.eigh(inputs.T @ inputs / len(inputs))
    spectrum = values.clamp_min(1e-4) + noise**2
    whitening: Tensor = (vectors * spectrum.rsqrt()) @ vectors.T
    return whitening


@dataclass(frozen=True)
class Quality:
    """Measured on a judge's images with the encoder frozen."""

    knn_top1: float
    linear_probe_top1: float
    """Of a head trained without noise."""
    robust_probe_top1: float
    """Of the head with the largest `constant_acr`."""
    constant_acr: float
    """Average image-space radius margin / L of a linear head, with L as given to `measure`."""
    probe_noise: float
    """Feature noise that head was trained with, chosen on train images."""
    constant_certified_at_36: float
    """Share of test images that a linear head gets right with a radius above 36/255, L as given;
    the head has the noise that is best for this on held-out train images."""


def measure(encoded: Callable[[Tensor], Tensor], judge: Judge, lipschitz: float) -> Quality:
    """k-NN, linear probe and the ACR that the constant `lipschitz` alone would certify.

    `encoded` takes images `[n, 3, s, s]` uint8 to features `[n, d]`.
    """
    train, test = judge.train, judge.test
    features, test_features = encoded(train.images), encoded(test.images)
    fit = len(train) * 9 // 10  # the rest chooses the noise, so that no test image does
    heads = {s: train_probe(features[:fit], train.labels[:fit], s) for s in PROBE_NOISE}
    held = {s: _acr(head, features[fit:], train.labels[fit:]) for s, head in heads.items()}
    noise = max(held, key=lambda s: held[s])
    reach = STANDARD_RADIUS * lipschitz  # in feature space
    shares = {s: _beyond(h, features[fit:], train.labels[fit:], reach) for s, h in heads.items()}
    steady = heads[max(shares, key=lambda s: shares[s])]
    return Quality(
        knn_top1=knn_accuracy(features, train.labels, test_features, test.labels),
        linear_probe_top1=heads[0.0].accuracy(test_features, test.labels),
        robust_probe_top1=heads[noise].accuracy(test_features, test.labels),
        constant_acr=_acr(heads[noise], test_features, test.labels) / lipschitz,
        probe_noise=noise,
        constant_certified_at_36=_beyond(steady, test_features, test.labels, reach),
    )


def _acr(head: LinearProbe, features: Tensor, labels: Tensor) -> float:
    return float(head.margins(features, labels).clamp_min(0).mean())


def _beyond(head: LinearProbe, features: Tensor, labels: Tensor, reach: float) -> float:
    """Share of features that are classified right with a margin above `reach`."""
    return float((head.margins(features, labels) > reach).float().mean())
