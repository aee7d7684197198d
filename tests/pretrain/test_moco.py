"""The contrastive objective against its formula, and the order in which its parts move."""

from __future__ import annotations

import math

import pytest
import torch
from reaas_pretrain.encoder import ConvEncoder
from reaas_pretrain.moco import (
    EndToEnd,
    MoCo,
    Similarity,
    contrast_accuracy,
    contrast_logits,
    contrast_loss,
    pair_logits,
)

from tests.pretrain.recipes import tiny_recipe


def _model(**contrast: object) -> MoCo:
    recipe = tiny_recipe(contrast=dict(contrast))
    torch.manual_seed(0)
    return MoCo(ConvEncoder(recipe.encoder), recipe.contrast)


def test_loss_is_the_formula_of_the_paper() -> None:
    torch.manual_seed(1)
    q, k, queue = (torch.nn.functional.normalize(torch.randn(n, 4), dim=1) for n in (3, 3, 7))
    loss = contrast_loss(contrast_logits(q, k, queue, "cosine", 0.2))
    expected = 0.0
    for i in range(3):
        own = math.exp(float(q[i] @ k[i]) / 0.2)
        others = sum(math.exp(float(q[i] @ queue[j]) / 0.2) for j in range(7))
        expected -= math.log(own / (own + others)) / 3
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_distance_is_minus_the_squared_distance() -> None:
    torch.manual_seed(2)
    q, k, queue = torch.randn(3, 4), torch.randn(3, 4), torch.randn(7, 4)
    logits = contrast_logits(q, k, queue, "distance", 2.0)
    assert torch.allclose(logits[:, 0], -(q - k).square().sum(1) / 2, atol=1e-5)
    assert torch.allclose(logits[:, 1:], -torch.cdist(q, queue).square() / 2, atol=1e-4)


def test_accuracy_counts_queries_whose_own_key_wins() -> None:
    assert contrast_accuracy(torch.tensor([[2.0, 1.0], [0.0, 1.0]])) == 0.5


def test_queue_is_first_in_first_out() -> None:
    model = _model(queue=16)
    batches = [torch.full((8, 5), float(i)) for i in range(3)]
    for batch in batches:
        model.enqueue(batch)
    assert torch.equal(model.queue[:8], batches[2])
    assert torch.equal(model.queue[8:], batches[1])
    assert int(model.pointer) == 8


def test_key_encoder_moves_before_it_encodes_and_keys_are_no_negatives_of_themselves() -> None:
    model = _model(momentum=0.75, similarity="dot", temperature=1.0)
    with torch.no_grad():
        model.encoder.linear.bias.add_(1.0)  # query and key encoder differ now
    key_bias = dict(model.key.named_parameters())["0.linear.bias"]
    expected = 0.75 * key_bias + 0.25 * model.encoder.linear.bias.detach()
    old_queue = model.queue.clone()
    views = torch.rand(8, 3, 9, 9)
    logits, features = model.logits(views, views)
    assert torch.allclose(key_bias, expected)
    keys = model.key(views)
    assert torch.allclose(logits[:, 0], (features * keys).sum(1), atol=1e-5)
    assert torch.allclose(logits[:, 1:], features @ old_queue.T, atol=1e-5)
    assert torch.allclose(model.queue[:8], keys)


def test_no_gradient_reaches_the_key_encoder() -> None:
    model = _model()
    views = list(torch.rand(2, 8, 3, 9, 9))
    model(views, torch.zeros(8)).loss.backward()
    assert all(p.grad is None for p in model.key.parameters())
    assert all(p.grad is not None for p in model.query.parameters())


@pytest.mark.parametrize("similarity", ["cosine", "distance", "dot"])
def test_pairs_are_compared_as_with_a_queue(similarity: Similarity) -> None:
    torch.manual_seed(3)
    q, k = torch.randn(3, 4), torch.randn(7, 4)
    pairs = pair_logits(q, k, similarity)
    if similarity == "cosine":
        q, k = (torch.nn.functional.normalize(v, dim=1) for v in (q, k))
    assert torch.allclose(pairs, contrast_logits(q, k[:3], k, similarity, 1.0)[:, 1:], atol=1e-5)


def test_end_to_end_contrasts_within_the_batch_in_both_directions() -> None:
    recipe = tiny_recipe(contrast={"similarity": "distance", "temperature": 2.0})
    torch.manual_seed(0)
    model = EndToEnd(ConvEncoder(recipe.encoder), recipe.contrast)
    first, second = torch.rand(2, 8, 3, 9, 9)
    logits = -torch.cdist(model.encoder(first), model.encoder(second)).square() / 2.0
    own = torch.arange(8)
    expected = sum(torch.nn.functional.cross_entropy(m, own) for m in (logits, logits.T)) / 2
    outcome = model([first, second], torch.zeros(8))
    assert torch.allclose(outcome.loss, torch.as_tensor(expected), rtol=1e-4)
    assert torch.allclose(outcome.features, model.encoder(first), atol=1e-5)
