"""What clients declare and what their keys allow, over real sockets."""

from __future__ import annotations

from urllib.request import urlopen

import numpy as np
import pytest
from reaas import Client, InvalidArgumentError, Method, OverloadedError
from reaas.certify import DownstreamClassifier, SmoothingConfig
from reaas.schemes import ReaasScheme, SeaasScheme

from evaluation.observe.fleet import Fleet
from evaluation.observe.replay import CAMERA, GUEST, GUEST_QUOTA, PHONE, SCANNER
from tests.observability.scraping import total

IMAGES = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
HEAD = DownstreamClassifier((np.eye(2, 8),), (np.zeros(2),))
DRAWS = "reaas_declared_draws_total"
CERTIFICATES = "reaas_declared_certificates_total"


def test_reaas_declares_the_draws_of_its_smoothed_classifier(fleet: Fleet) -> None:
    with fleet.connect(PHONE) as client:
        scheme = ReaasScheme(client, "tiny", f2i_method=Method.LIPSCHITZ)
        scheme.certify_smoothed(IMAGES, HEAD, SmoothingConfig(sigma=0.1, n0=10, n=90), seed=0)
    assert total(fleet, CERTIFICATES, client=PHONE, scheme="reaas") == 3
    assert total(fleet, DRAWS, client=PHONE, scheme="reaas") == 3 * 100


def test_reaas_declares_nothing_for_its_base_classifier(fleet: Fleet) -> None:
    with fleet.connect(CAMERA) as client:
        ReaasScheme(client, "tiny", f2i_method=Method.LIPSCHITZ).certify_base(IMAGES, HEAD)
    assert total(fleet, CERTIFICATES, client=CAMERA) == 0


def test_seaas_declares_its_noisy_copies_and_not_its_training(fleet: Fleet) -> None:
    with fleet.connect(SCANNER) as client:
        scheme = SeaasScheme(client, "tiny", sigma=0.1, seed=0, copies=5, batch_inputs=7)
        scheme.encode_training(IMAGES)
        scheme.certify_smoothed(IMAGES, HEAD, SmoothingConfig(sigma=0.1, n0=4, n=16))
    # Every message counts its share of a certificate.
    assert total(fleet, CERTIFICATES, client=SCANNER, scheme="seaas") == pytest.approx(3)
    assert total(fleet, DRAWS, client=SCANNER, scheme="seaas") == pytest.approx(3 * 20)


@pytest.mark.parametrize("draws", [0, -1, 10**7 + 1])
def test_draws_that_no_service_takes_are_refused_at_once(fleet: Fleet, draws: int) -> None:
    with fleet.connect(PHONE) as client, pytest.raises(InvalidArgumentError, match="draws"):
        client.with_scheme("reaas", draws=draws)


def _ask_on(client: Client) -> None:
    for _ in range(2 * GUEST_QUOTA):
        client.encode(IMAGES, "tiny")


def test_a_client_is_refused_when_its_quota_is_used(fleet: Fleet) -> None:
    with fleet.connect(GUEST) as client, pytest.raises(OverloadedError) as refused:
        _ask_on(client)
    assert "of 40 queries" in str(refused.value)
    assert refused.value.reason == "QUOTA_EXCEEDED"
    assert (refused.value.retry_after_s or 0.0) > 60
    assert total(fleet, "reaas_refused_total", reason="QUOTA_EXCEEDED") >= 1
    # Windows belong to a process: each replica lets the client in with all of its quota at most.
    assert total(fleet, "reaas_queries_total", client=GUEST, api="feature") <= 2 * GUEST_QUOTA


def test_known_clients_are_counted_from_zero(fleet: Fleet) -> None:
    labels = f'client="{GUEST}",model="tiny",phase="train",scheme="seaas"'
    for service in fleet.encoders:
        with urlopen(service.metrics_url) as reply:
            lines = reply.read().decode().splitlines()
        for name in ("queries", "request_bytes", "response_bytes", "compute_seconds"):
            assert f'reaas_{name}_total{{api="feature",{labels}}} 0.0' in lines
